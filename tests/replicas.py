"""A streaming replica of an embedded PostgreSQL, and TLS in front of one."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import ssl
import struct
import subprocess
import threading
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path

import trustme

from app.local.postgres import PostgresServer
from app.local.servers import HOST

SSL_REQUEST = struct.pack(">ii", 8, 80_877_103)  # PostgreSQL's protocol, chapter 54.7


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


class Door(ABC):
    """A port of its own, and a thread for each who comes in; to be opened once all it needs is there."""

    def __init__(self) -> None:
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @abstractmethod
    def _serve(self, client: socket.socket) -> None:
        """Serves one who came in, and closes the connection."""

    def close(self) -> None:
        """Nobody comes in any more."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes who accepts
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()


class TlsDoor(Door):
    """TLS in front of a server whose build has none: answers PostgreSQL's request for it, and hands on what is said.

    `ca` is the authority that signed for 127.0.0.1.
    """

    def __init__(self, folder: Path, server: PostgresServer) -> None:
        self._server = server
        self.ca = folder / "ca.pem"
        made = trustme.CA()
        made.cert_pem.write_to_path(self.ca)
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        made.issue_cert(HOST).configure_cert(self._context)
        self.secured = 0  # connections that came to speak through TLS
        super().__init__()

    def url(self, ca: Path, mode: str = "verify-full") -> str:
        """The database's URL through the door, with the authority to believe."""
        return f"{self._server.url.replace(f':{self._server.port}/', f':{self.port}/')}?sslmode={mode}&sslrootcert={ca}"

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client:
            if client.recv(8) != SSL_REQUEST:
                return  # this door is for TLS alone
            client.sendall(b"S")
            with self._context.wrap_socket(client, server_side=True) as safe:
                self.secured += 1
                with socket.create_connection((HOST, self._server.port)) as inside:
                    threading.Thread(target=_pipe, args=(inside, safe), daemon=True).start()
                    _pipe(safe, inside)


class StallDoor(Door):
    """A way to a server that can fall silent: like a frozen machine it takes connections, and no byte passes."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open = threading.Event()
        self._open.set()
        super().__init__()

    def stall(self) -> None:
        """From now on nothing passes, and nothing is lost."""
        self._open.clear()

    def go_on(self) -> None:
        """Everything that was held passes."""
        self._open.set()

    def close(self) -> None:
        """Nobody comes in any more, and nobody waits."""
        super().close()
        self._open.set()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client, socket.create_connection((HOST, self._port)) as inside:
            back = threading.Thread(target=self._hand_on, args=(inside, client), daemon=True)
            back.start()
            self._hand_on(client, inside)
            back.join()

    def _hand_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                self._open.wait()
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def _pipe(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_RDWR)


def tool_of(server: PostgresServer, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A program that comes with PostgreSQL, awaited, with the server's password."""
    return subprocess.run(
        [server._binary(name), *arguments], env={**os.environ, "PGPASSWORD": server.password}, capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip
