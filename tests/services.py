"""The real servers that tests talk to: a private MariaDB and a private Redis on free loopback ports.

Each lives in a folder of its own, can be killed and started again on the same port, and goes away
with the test process, however that ends. All calls block for at most a few seconds.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import NullPool, create_engine
from sqlalchemy.exc import OperationalError

from tests.fakes.program import free_port

START_SECONDS = 60.0
STOP_SECONDS = 30.0
SEARCH_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))

_AVENGE = 'read -r _; kill -9 "$0" 2>/dev/null; rm -rf -- "$1"'
"""Waits until the test process is gone (its end of the pipe closes), then takes the server along."""


class ServiceMissing(RuntimeError):
    """A server program that the tests need is not installed. The text says what to install."""


@dataclass
class _Server:
    """A server's process, and a guard that ends it if the tests die before they end it themselves."""

    folder: Path
    _process: subprocess.Popen[bytes] | None = None
    _guard: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, *command: str) -> None:
        with (self.folder / "output.txt").open("ab") as output:
            self._process = subprocess.Popen(
                command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self._guard = subprocess.Popen(
            ("sh", "-c", _AVENGE, str(self._process.pid), str(self.folder)),
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the tests
        )

    def end(self, number: signal.Signals) -> None:
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.kill()
            guard.wait()
            assert guard.stdin is not None
            guard.stdin.close()
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def pause(self, paused: bool) -> None:
        os.kill(self.pid, signal.SIGSTOP if paused else signal.SIGCONT)

    def output(self) -> str:
        return (self.folder / "output.txt").read_text(errors="replace")[-2000:]


@dataclass
class MariaDb:
    """A private MariaDB. `root` has no password; nobody but this machine reaches it."""

    folder: Path
    port: int = field(default_factory=free_port)
    _server: _Server = field(init=False, repr=False)
    _databases: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._server = _Server(self.folder)

    @property
    def data(self) -> Path:
        """The server's data directory."""
        return self.folder / "data"

    @property
    def running(self) -> bool:
        return self._server.running

    def url(self, database: str = "") -> str:
        """As SQLAlchemy and `DATABASE_URL` want it."""
        return f"mysql+aiomysql://root@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start, the first time with an empty data directory; returns when it answers."""
        if self.running:
            return
        if not self.data.exists():
            self._install()
        self._server.start(
            _program("mariadbd", "mariadb-server"),
            "--no-defaults",
            *_USER,
            f"--datadir={self.data}",
            f"--tmpdir={self.folder}",
            "--socket=server.sock",  # below datadir: a socket's whole path may not be long
            f"--pid-file={self.folder / 'server.pid'}",
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            "--character-set-server=utf8mb4",
            "--performance-schema=OFF",
            "--innodb-buffer-pool-size=24M",
            "--innodb-log-file-size=8M",
            "--innodb-log-buffer-size=2M",
            "--innodb-fast-shutdown=2",  # what is committed is in the log: as after a crash, only faster
            "--aria-pagecache-buffer-size=1M",
            "--key-buffer-size=1M",
            "--table-open-cache=400",
            "--max-connections=200",
        )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.run()
                return
            except OperationalError:
                if not self.running or time.monotonic() > deadline:
                    self.kill()
                    raise RuntimeError(f"mariadbd does not start: {self._server.output()}") from None
                time.sleep(0.02)  # a process of another program has no event to wait on

    def stop(self) -> None:
        """SIGTERM, and wait until it is gone."""
        self._server.end(signal.SIGTERM)

    def kill(self) -> None:
        """kill -9."""
        self._server.end(signal.SIGKILL)

    def pause(self) -> None:
        """It is there and does not answer, until `resume`."""
        self._server.pause(True)

    def resume(self) -> None:
        self._server.pause(False)

    def remove(self) -> None:
        """Kill it and delete everything it kept."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def fresh_database(self) -> str:
        """The URL of a new, empty database."""
        self._databases += 1
        name = f"test_{self._databases}"
        self.run(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        return self.url(name)

    def run(self, *statements: str) -> None:
        """Run statements as root, in no database. Raises sqlalchemy's OperationalError if it does not answer."""
        engine = create_engine(
            f"mysql+pymysql://root@127.0.0.1:{self.port}",
            connect_args={"connect_timeout": 5},
            isolation_level="AUTOCOMMIT",
            poolclass=NullPool,
        )
        with engine.connect() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def _install(self) -> None:
        done = subprocess.run(
            (
                _program("mariadb-install-db", "mariadb-server"),
                "--no-defaults",
                *_USER,
                f"--datadir={self.data}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                "--innodb-log-file-size=8M",
                f"--tmpdir={self.folder}",  # in one folder, installations at once take each other's files
            ),
            cwd=self.folder,
            capture_output=True,
            env={**os.environ, "PATH": SEARCH_PATH, "TMPDIR": str(self.folder)},
            timeout=START_SECONDS,
        )
        if done.returncode != 0:
            shutil.rmtree(self.data, ignore_errors=True)
            raise RuntimeError(f"mariadb-install-db: {(done.stdout + done.stderr).decode()[-2000:]}")


@dataclass
class RedisServer:
    """A private Redis that keeps an append-only file, so that what it acknowledged outlives a kill."""

    folder: Path
    port: int = field(default_factory=free_port)
    _server: _Server = field(init=False, repr=False)
    _databases: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._server = _Server(self.folder)

    @property
    def running(self) -> bool:
        return self._server.running

    def url(self, database: int = 0) -> str:
        """As redis-py and `REDIS_URL` want it."""
        return f"redis://127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start; returns when it answers."""
        if self.running:
            return
        self._server.start(
            _program("redis-server", "redis-server"),
            *("--port", str(self.port)),
            *("--bind", "127.0.0.1"),
            *("--dir", str(self.folder)),
            *("--databases", str(REDIS_DATABASES)),
            *("--appendonly", "yes"),
            *("--save", ""),
        )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if not self.running or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"redis-server does not start: {self._server.output()}")
            time.sleep(0.02)  # a process of another program has no event to wait on

    def stop(self) -> None:
        """SIGTERM, and wait until it is gone."""
        self._server.end(signal.SIGTERM)

    def kill(self) -> None:
        """kill -9."""
        self._server.end(signal.SIGKILL)

    def pause(self) -> None:
        """It is there and does not answer, until `resume`."""
        self._server.pause(True)

    def resume(self) -> None:
        self._server.pause(False)

    def remove(self) -> None:
        """Kill it and delete everything it kept."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def fresh_database(self) -> str:
        """The URL of a database that no test has used."""
        self._databases += 1
        assert self._databases < REDIS_DATABASES
        return self.url(self._databases)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


REDIS_DATABASES = 1000

_USER = ("--user=root",) if os.geteuid() == 0 else ()
"""mariadbd runs as root only when told to; here it serves nobody but the tests."""


def _program(name: str, package: str) -> str:
    """Where a program is. Raises ServiceMissing."""
    found = shutil.which(name, path=SEARCH_PATH)
    if found is None:
        raise ServiceMissing(f"{name} is not installed: sudo apt-get install -y {package}")
    return found
