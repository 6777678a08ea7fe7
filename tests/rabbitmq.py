"""A RabbitMQ of the tests' own: Debian's, as plain processes on free ports of loopback, with its name server."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from app.cache.broker import queues
from app.cache.queue_lengths import amqp_connection
from app.config import load_settings
from app.local.servers import HOST, Server, free_port
from tests.tools import tool

USER = "market"


class RabbitServer(Server):
    """One node. Erlang's name server (epmd) is a child of ours too, or the first node would leave one behind."""

    name = "rabbitmq"

    def __init__(self, data_dir: Path, *, vhost: str = "market") -> None:
        super().__init__(data_dir)
        self.vhost = vhost
        # Debian's command is a wrapper that only root and its own user may run; what it wraps stands beside it.
        self._program = Path(tool("rabbitmq-server")).resolve().parent / "rabbitmq-server"
        self._epmd: subprocess.Popen[bytes] | None = None
        self._names, self._distribution = free_port(), free_port()

    @property
    def url(self) -> str:
        return f"amqp://{USER}:{self.password}@{HOST}:{self.port}/{self.vhost}"

    def kill(self) -> None:
        """Ends the broker as a power cut would; `start` recovers what it had confirmed."""
        assert self.process is not None
        for process in [*psutil.Process(self.process.pid).children(recursive=True), self.process]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait(60)
        self.process = None

    def stop(self, *, timeout_s: float = 30.0) -> None:
        children = psutil.Process(self.process.pid).children(recursive=True) if self.pid and self.process else []
        super().stop(timeout_s=timeout_s)
        for child in psutil.wait_procs(children, timeout=5)[1]:
            with suppress(psutil.NoSuchProcess):
                child.kill()

    def empty(self) -> None:
        """Removes the platform's queues, whatever a test before has left in them."""
        connection = amqp_connection(self.url)
        try:
            for queue in queues(load_settings(celery_broker_url=self.url, _env_file=None)):
                connection.default_channel.queue_delete(queue.name)
        finally:
            connection.release()

    def close(self) -> None:
        """Stops broker and name server."""
        self.stop()
        if self._epmd is not None:
            self._epmd.terminate()
            self._epmd.wait(60)
            self._epmd = None

    def _pid_file(self) -> Path:
        return self.dir / "rabbitmq.pid"

    def _prepare(self) -> None:
        self.dir.mkdir(exist_ok=True)
        (self.dir / "plugins").write_text("[].\n", encoding="ascii")
        (self.dir / "rabbitmq.conf").write_text(
            f"listeners.tcp.local = {HOST}:{self.port}\ndefault_vhost = {self.vhost}\n"
            f"default_user = {USER}\ndefault_pass = {self.password}\n"
            "log.file = false\nlog.console = true\nlog.console.level = warning\n"
            "disk_free_limit.absolute = 10MB\nvm_memory_high_watermark.relative = 0.9\n"
            "raft.wal_max_size_bytes = 16777216\ncollect_statistics_interval = 60000\n",
            encoding="ascii",
        )
        if self._epmd is None:
            epmd = [tool("epmd"), "-port", str(self._names), "-address", HOST]
            self._epmd = subprocess.Popen(
                epmd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip

    def _command(self) -> list[str]:
        return [str(self._program)]

    def _spawn(self, command: list[str], **options: object) -> subprocess.Popen[bytes]:
        folder = str(self.dir)
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("RABBITMQ_", "ERL_"))},
            "HOME": folder,  # of the cookie
            "detached": "1",  # the broker takes the script's place, so that its pid and its signals are the broker's
            "ERL_EPMD_PORT": str(self._names),
            "ERL_EPMD_ADDRESS": HOST,
            "ERL_CRASH_DUMP_SECONDS": "0",
            "RABBITMQ_NODENAME": f"market{self.port}@localhost",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
            "RABBITMQ_CONF_ENV_FILE": f"{folder}/none",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
            "RABBITMQ_MNESIA_BASE": f"{folder}/mnesia",
            "RABBITMQ_LOG_BASE": f"{folder}/log",
            "RABBITMQ_PID_FILE": str(self._pid_file()),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +SDcpu 1:1",
        }
        return super()._spawn(command, env=environment, **options)

    def _recovers(self) -> bool:
        return True  # Erlang and all of the broker are loaded: half a minute on a busy machine

    def _answers(self) -> bool:
        """Listening is not enough: a broker that is starting closes the connection."""
        try:
            with socket.create_connection((HOST, self.port), timeout=2) as probe:
                probe.sendall(b"AMQP\x00\x00\x09\x01")
                return probe.recv(1) == b"\x01"
        except OSError:
            return False


@contextmanager
def rabbitmq(folder: Path) -> Iterator[RabbitServer]:
    """A broker that is gone on the way out, with all its processes."""
    server = RabbitServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.close()
