"""`python -m app up`: the whole platform of one DATA_DIR, from an empty directory to a live chart and back to rest."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FrameType

import psutil
import redis
from rich.console import Console
from rich.markup import escape

from app.cache import health
from app.cache.addresses import connect
from app.config import ROOT, Settings
from app.errors import ServerFailed
from app.local.brokers import check_brokers
from app.local.child import ChildSpec, State
from app.local.embedded import Embedded
from app.local.flower import with_flower_password
from app.local.orphans import end_orphans, record_children
from app.local.ports import claim_ports
from app.local.processes import child_environment, missing, process_table
from app.local.report import address_table
from app.local.restarts import Restarts
from app.local.rolling import Failed
from app.local.room import check_room, most_connections
from app.local.runfile import Run, forget_run, hold, write_run
from app.local.saying import Voice
from app.local.strays import Strays
from app.local.supervisor import TICK_S, Supervisor
from app.local.terminal import own_foreground, raise_file_limit
from app.local.token import with_token
from app.local.work import Queues
from app.logs import logger, setup_logging
from app.metrics import empty
from app.metrics.alive import began

BEAT_S = 5.0
START_S = 90.0

Table = Callable[[Settings, Run, Path], list[ChildSpec]]


class Stopping(Exception):
    """Raised inside the start when a signal asks to stop."""


class Platform:
    """One run of the platform. Make it, then call `run`."""

    def __init__(self, settings: Settings, *, console: Console, table: Table) -> None:
        self._settings, self._say, self._table = settings, Voice(console), table
        self._run_dir = settings.data_dir / "run"
        self._signals = 0
        self._signalled = 0.0
        self._embedded: Embedded | None = None
        self._supervisor: Supervisor | None = None
        self._redis: redis.Redis | None = None
        self._restarts: Restarts | None = None
        self._strays = Strays(settings.process_instance)

    def run(self) -> int:
        """Starts everything, looks after it until SIGINT, SIGTERM or SIGHUP, and stops everything; the exit code.

        Started by `nohup` it stays when its terminal goes.
        """
        with ExitStack() as stack:
            stack.enter_context(hold(self._settings.data_dir))
            stack.enter_context(own_foreground())
            stays = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            for number in (signal.SIGINT, signal.SIGTERM, *(() if stays else (signal.SIGHUP,))):
                stack.callback(signal.signal, number, signal.signal(number, self._on_signal))
            raise_file_limit()
            setup_logging(self._settings.model_copy(update={"log_console": False}), process="up")
            try:
                self._start()
                self._watch()
            except Stopping:
                logger.info("stop asked for")
            finally:
                self._stop()
        return 0

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._signals == 0 or now - self._signalled > 1.0:  # one Ctrl-C may arrive twice, through make
            self._signals += 1
            self._signalled = now

    def _start(self) -> None:
        began = time.monotonic()
        settings = self._settings
        if left := end_orphans(settings.data_dir):
            self._say(f"[yellow]![/] ended what a killed run left behind: {', '.join(left)}")
        check_brokers(settings, say=self._say)
        empty(settings.metrics_folder)
        settings = self._settings = with_flower_password(with_token(claim_ports(settings)))
        setup_logging(settings.model_copy(update={"log_console": False}), process="up")  # which knows these secrets now
        self._embedded = Embedded(settings, say=self._say)
        run = self._describe()
        table = self._table(settings, run, self._run_dir)
        self._embedded.start(self._stop_asked, connections=most_connections(settings, table))
        if settings.database_url:
            check_room(settings.database_url, settings, table, say=self._say, pause=self._pause)
        environment = child_environment(settings, run)
        self._migrate(environment)
        self._supervisor = Supervisor(
            table,
            environment=environment,
            cwd=ROOT,
            run_dir=self._run_dir,
            log_dir=settings.log_dir,
            say=self._say,
            changed=self._record,
        )
        queues = Queues(run)
        self._restarts = Restarts(
            self._supervisor,
            run_dir=self._run_dir,
            say=self._say,
            table=lambda wanted: self._next_table(wanted, run),
            work=queues,
        )
        shards = settings.trade_shards
        for name, n in queues.unread(shards).items():
            self._say(
                f"[yellow]![/] {n} messages wait in {name}, which nobody reads with TRADE_SHARDS={shards}: "
                f"`restart --trade-shards {int(name.rpartition('.')[2]) + 1}`, then `--trade-shards {shards}`"
            )
        queues.close()
        for line in missing(settings):
            self._say(f"[dim]–[/] {line}")
        self._redis = connect(run.redis_url, socket_timeout=1, socket_connect_timeout=1)
        self._clear_strays()
        write_run(settings.data_dir, run)
        while not self._supervisor.settled and time.monotonic() - began < START_S:
            self._supervisor.tick()
            self._pause()
        self._say(address_table(settings, run, seconds=time.monotonic() - began))
        for child in self._supervisor.children.values():
            if child.state is not State.READY:
                self._say(f"[yellow]![/] {child.spec.name} is {child.state}: see {child.traces}")
        self._say("[dim]Ctrl-C stops everything.[/]")

    def _watch(self) -> None:
        assert self._supervisor is not None and self._embedded is not None and self._restarts is not None
        next_beat = 0.0
        while True:
            self._supervisor.tick()
            self._embedded.tick()
            self._restarts.tick(self._settings, self._change)
            if time.monotonic() >= next_beat:
                next_beat = time.monotonic() + BEAT_S
                self._beat()
            self._pause()

    def _next_table(self, wanted: Settings, run: Run) -> list[ChildSpec]:
        """The table of a restart; raises ConfigError, or Failed, where the database has no room for all of it."""
        assert self._supervisor is not None
        setup_logging(wanted.model_copy(update={"log_console": False}), process="up")  # which knows new secrets now
        table = self._table(wanted, run, self._run_dir)
        names = {spec.name for spec in table}
        leaving = [child.spec for child in self._supervisor.children.values() if child.spec.name not in names]
        check_room(run.database_url, wanted, [*table, *leaving], say=self._say, pause=_not_now)
        return table

    def _change(self, settings: Settings) -> None:
        """Takes in what a restart has brought into use."""
        self._settings = settings

    def _pause(self) -> None:
        if self._signals:
            raise Stopping
        time.sleep(TICK_S)
        if self._signals:
            raise Stopping

    def _stop_asked(self) -> None:
        if self._signals:
            raise Stopping

    def _describe(self) -> Run:
        settings, embedded = self._settings, self._embedded
        assert embedded is not None
        sandbox = f"http://{settings.sandbox_host}:{settings.sandbox_port}" if settings.market == "sandbox" else ""
        return Run(
            pid=os.getpid(),
            created=psutil.Process().create_time(),
            began=began(),
            web_url=f"http://{_visible(settings.web_host)}:{settings.web_port}",
            flower_url=f"http://127.0.0.1:{settings.flower_port}",
            sandbox_url=sandbox,
            database_url=embedded.database_url,
            redis_url=embedded.redis_url,
            celery_broker_url=settings.celery_broker_url or embedded.redis_url,
            log_dir=str(settings.log_dir),
            market=settings.market,
        )

    def _migrate(self, environment: dict[str, str]) -> None:
        """Brings the schema up to date in a process of its own: SQLAlchemy's memory goes with it."""
        process = subprocess.Popen(
            [sys.executable, "-m", "app", "db", "upgrade"],
            env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            while process.poll() is None:
                self._pause()
        except Stopping:
            process.terminate()  # each migration is one transaction
            process.wait()
            raise
        output = process.stdout.read().decode("utf-8", "replace").strip() if process.stdout else ""
        if process.returncode:
            raise ServerFailed(f"the database schema could not be brought up to date:\n{output[-2000:]}")
        for line in output.splitlines():
            if line.startswith("! "):
                self._say(f"[yellow]![/] {escape(line.removeprefix('! '))}")
        self._say("[green]✓[/] database schema up to date")

    def _record(self) -> None:
        assert self._supervisor is not None
        children = self._supervisor.everyone
        known = [(child.spec.name, child.pid, child.began) for child in children if child.pid is not None]
        try:
            record_children(self._settings.data_dir, known)
        except OSError as error:  # a full disk: the children are found by their mark, too
            logger.warning("the children's pids cannot be written down", error=str(error))

    def _beat(self) -> None:
        """Tells `status` about every child; Redis being away is no reason to stop looking after them."""
        assert self._supervisor is not None and self._redis is not None
        children = {}
        for name, child in self._supervisor.children.items():
            child.trim()
            children[name] = {"state": child.state.value, "pid": child.pid, "restarts": child.restarts}
        try:
            health.beat(self._redis, self._settings.named("up"), {"pid": os.getpid(), "children": children})
        except redis.RedisError as error:
            logger.warning("heartbeat not written", error=str(error))
        self._clear_strays()

    def _clear_strays(self) -> None:
        assert self._supervisor is not None and self._redis is not None
        self._strays.clear(self._redis, {child.spec.name for child in self._supervisor.everyone})

    def _stop(self) -> None:
        asked = self._signals
        began = time.monotonic()
        try:
            if self._signals:
                self._say("Stopping …")
            if self._supervisor is not None:
                self._supervisor.stop(hurry=lambda: self._signals > asked)
            if self._redis is not None:
                with suppress(redis.RedisError):  # it may be what failed
                    health.forget(self._redis, self._settings.named("up"))
                self._redis.close()
        finally:
            if self._embedded is not None:
                self._embedded.stop()
            forget_run(self._settings.data_dir)
        if self._signals:
            self._say(f"Stopped in {time.monotonic() - began:.1f} s.")


def _not_now() -> None:
    raise Failed("the database is starting: restart again once it serves")


def _visible(host: str) -> str:
    return "127.0.0.1" if host in {"0.0.0.0", "::", ""} else host


def run_up(settings: Settings, *, streamers: bool = True) -> int:
    """Runs the platform until a signal; the exit code."""

    def table(final: Settings, run: Run, run_dir: Path) -> list[ChildSpec]:
        return process_table(final, run, run_dir=run_dir, streamers=streamers)

    return Platform(settings, console=Console(), table=table).run()
