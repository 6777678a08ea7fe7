"""A streaming replica of an embedded PostgreSQL, and one that speaks TLS."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path

import trustme

from app.local.postgres import PostgresServer
from app.local.servers import HOST


def owned(path: Path) -> Path:
    """The file or folder, given to whom the server runs as."""
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    return path


class Replica(PostgresServer):
    """Made by pg_basebackup from a running primary, and following it."""

    name = "replica"

    def __init__(self, data_dir: Path, primary: PostgresServer) -> None:
        super().__init__(data_dir)
        self._primary = primary
        self.OPTIONS = {**primary.OPTIONS, "hot_standby": "on", "hot_standby_feedback": "on"}

    @property
    def password(self) -> str:
        return self._primary.password

    def _prepare(self) -> None:
        if (self.dir / "PG_VERSION").exists():
            return
        shutil.rmtree(self.dir, ignore_errors=True)
        self.dir.mkdir(mode=0o700)
        owned(self.dir)
        with self.log.open("ab") as log:
            code = self._spawn(
                [
                    self._binary("pg_basebackup"), "-D", str(self.dir), "-R", "-X", "stream", "-c", "fast", "-h", HOST,
                    "-p", str(self._primary.port), "-U", "postgres", "--no-password",
                ],
                stdout=log, env={**os.environ, "PGPASSWORD": self.password},
            ).wait()  # fmt: skip
        assert code == 0, self.log.read_text()


class TlsServer(PostgresServer):
    """Speaks TLS with a certificate for its address; `ca` is whose word for it is to be taken."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir)
        self.ca = data_dir / "ca.pem"
        made = trustme.CA()
        made.cert_pem.write_to_path(self.ca)
        certificate = made.issue_cert(HOST)
        key, chain = data_dir / "server.key", data_dir / "server.pem"
        certificate.private_key_pem.write_to_path(key)
        certificate.cert_chain_pems[0].write_to_path(chain)
        key.chmod(0o600)
        for path in (key, chain):
            owned(path)
        self.OPTIONS = {**self.OPTIONS, "ssl": "on", "ssl_cert_file": str(chain), "ssl_key_file": str(key)}

    def secured(self, ca: Path, mode: str = "verify-full") -> str:
        """The URL with the authority to believe."""
        return f"{self.url}?sslmode={mode}&sslrootcert={ca}"


def tool_of(server: PostgresServer, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A program that comes with PostgreSQL, awaited, with the server's password."""
    return subprocess.run(
        [server._binary(name), *arguments], env={**os.environ, "PGPASSWORD": server.password}, capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip
