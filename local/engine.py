"""The engine that runs SAM's containers: whether there is one, and the image of this machine's libraries, for what is built here.

    python local/engine.py          # says, as JSON, {"image": …, "host": …, "template": …}: what `sam local` is to be given by
                                    # --invoke-image and --template, and how containers see this machine
    python local/engine.py up       # starts one where none runs, installing Debian's where there is none: for CI, as root
    python local/engine.py down     # stops it, if it was started so

SAM would pull Amazon's image and put its runtime interface emulator into it. What `local/up.sh` builds is linked to this machine's
libc, which may be newer; so the image is made of that, and of SAM's emulator. (What `make build` builds is for Amazon's: tools/glibc.py.)
"""

import contextlib
import hashlib
import io
import ipaddress
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import docker
import samcli

IMAGE = "weir-local"
MACHINE = {"x86_64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}.get(platform.machine(), platform.machine())
BUILT = Path(".aws-sam/build")
STARTED = Path("/run/weir-dockerd.pid")
FOLDERS = ["/lib64", "/usr/lib64", "/var/runtime", "/var/runtime/lib", "/var/task", "/var/task/lib", "/opt/lib"]
# Loaded by name: ldd does not see them.
NAMES_SERVICE = ["libresolv.so.2", "libnss_dns.so.2", "libnss_files.so.2"]
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
TEXTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nsbx_user1051:x:993:990::/home/sbx_user1051:/sbin/nologin\n",
    "etc/group": "root:x:0:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}


def engine():
    """A client of the engine that runs; without one, why not."""
    try:
        client = docker.from_env(timeout=60)
        client.ping()
        return client
    except docker.errors.DockerException as error:
        raise SystemExit(f"no Docker engine answers ({str(error).splitlines()[0][:200]})") from None


def libraries():
    """What the built functions are linked to, by the path that they are looked for at."""
    functions = sorted(BUILT.glob("*/bootstrap"))
    if not functions:
        raise SystemExit(f"there is nothing in {BUILT}: make local-up builds")
    said = subprocess.run(["ldd", *functions], check=True, capture_output=True, text=True).stdout
    found = {path: path for path in re.findall(r"^\s+(/\S+) \(0x", said, re.M)}  # the loader, by its whole path
    linked = set(re.findall(r"=> (/\S+) \(0x", said))
    beside = {str(Path(path).parent / name) for path in linked for name in NAMES_SERVICE}
    for path in linked | {path for path in beside if Path(path).exists()}:
        found[f"/lib64/{Path(path).name}"] = path
    return found


def image(client):
    """Makes it, in a second, unless it is there and of the same libraries."""
    emulator = Path(samcli.__file__).parent / f"local/rapid/aws-lambda-rie-{MACHINE}"
    files = {"var/rapid/aws-lambda-rie": emulator, **{to.lstrip("/"): Path(at) for to, at in libraries().items()}}
    if Path(CERTIFICATES).exists():
        files[CERTIFICATES.lstrip("/")] = Path(CERTIFICATES)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for folder in ["tmp", *(folder.lstrip("/") for folder in FOLDERS)]:
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            tar.addfile(entry)
        for name, at in sorted(files.items()):
            content = at.resolve().read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
        for name, text in TEXTS.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text), 0o644
            tar.addfile(entry, io.BytesIO(text.encode()))
    digest = hashlib.sha256(packed.getvalue()).hexdigest()
    if client.images.list(IMAGE, filters={"label": f"weir={digest}"}):
        return
    # As SAM calls what it makes of an image: where it is there, SAM makes none.
    said = client.api.import_image_from_data(
        packed.getvalue(), IMAGE, f"rapid-{MACHINE}",
        changes=["WORKDIR /var/task", f"ENV LD_LIBRARY_PATH={':'.join(FOLDERS)}", f"LABEL weir={digest}"],
    )  # fmt: skip
    if "error" in said:
        raise SystemExit(f"the image can't be made: {said.strip()[-300:]}")
    client.images.prune({"label": "weir"})  # of libraries that are no more


def host(client):
    """This machine's address, as containers on the bridge see it."""
    bridge = client.networks.get("bridge").attrs["IPAM"]["Config"][0]
    return bridge.get("Gateway") or str(next(ipaddress.ip_network(bridge["Subnet"]).hosts()))


def template():
    """The built template, where each function has a variable for the endpoint: what SAM finds declared nowhere it does not pass on."""
    to = BUILT / "invoke.yaml"
    text = re.sub(r"^( *)STACK:", r'\1AWS_ENDPOINT_URL: ""\n\g<0>', (BUILT / "template.yaml").read_text(), flags=re.M)
    if not to.exists() or to.read_text() != text:
        own = to.with_suffix(f".{os.getpid()}")
        own.write_text(text)
        own.rename(to)  # others may be reading
    return str(to)


def up():
    """Starts an engine, unless one runs."""
    try:
        return engine().ping()
    except SystemExit as silent:
        if os.geteuid() != 0:
            raise SystemExit(f"{silent}, and only root can start one: start Docker, and again") from None
    if not shutil.which("dockerd"):
        # Debian's own release of it: an exact version is gone from its mirrors with the next fix.
        print("installing Debian's docker.io", file=sys.stderr)
        quiet = {"stdout": subprocess.DEVNULL, "env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}}
        subprocess.run(["apt-get", "update", "-q"], check=True, **quiet)
        subprocess.run(["apt-get", "install", "-qy", "--no-install-recommends", "docker.io", "iptables"], check=True, **quiet)
    log = open("/var/log/dockerd.log", "a")
    daemon = subprocess.Popen(["dockerd"], stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
    STARTED.write_text(str(daemon.pid))
    for _ in range(60):
        time.sleep(0.5)
        try:
            return engine().ping()
        except SystemExit:
            pass
    raise SystemExit("dockerd does not answer; see /var/log/dockerd.log")


def down():
    """Stops what `up` started."""
    if STARTED.exists():
        pid = STARTED.read_text()
        STARTED.unlink()
        with contextlib.suppress(OSError):  # it has ended
            if b"dockerd" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(int(pid), signal.SIGTERM)


if __name__ == "__main__":
    if sys.argv[1:] == ["up"]:
        up()
    elif sys.argv[1:] == ["down"]:
        down()
    elif not sys.argv[1:]:
        client = engine()
        image(client)
        print(json.dumps({"image": IMAGE, "host": host(client), "template": template()}))
    else:
        raise SystemExit(__doc__)
