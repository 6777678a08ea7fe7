"""How `python -m app restart` asks a running `up` for a restart: a file in its run directory, and one for the answer.

The directory is its owner's alone, as everything in DATA_DIR that counts.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.markup import escape

from app.config import Settings, load_settings
from app.errors import BadInput, ConfigError
from app.local.child import ChildSpec
from app.local.flower import with_flower_password
from app.local.rolling import Failed, Rolling, Work
from app.local.runfile import write_private
from app.local.supervisor import Supervisor
from app.local.token import with_token
from app.logs import logger
from app.metrics.alive import began, lives

SHARDS = ("trade_shards", "stream_shards")  # settings that a restart may change
# What the whole run stands on: its servers, ports, folders and market. Only another `up` changes these.
PINNED = (
    "data_dir", "log_dir", "metrics_dir", "market", "database_url", "redis_url", "celery_broker_url", "web_host",
    "web_port", "flower_port", "sandbox_host", "sandbox_port", "process_instance",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be restarted: these processes or all of them; `settings` are other numbers of shards."""

    id: str
    names: tuple[str, ...] = ()
    settings: dict[str, int] = field(default_factory=dict)
    pid: int = 0  # of who asks
    began: str = ""  # when that one did


def ask(run_dir: Path, names: Sequence[str], settings: dict[str, int]) -> Path:
    """Leaves a request for `up`; returns the file that its answer grows in. Raises BadInput where another one waits."""
    run_dir.mkdir(parents=True, exist_ok=True)
    request = Request(secrets.token_hex(8), tuple(names), settings, os.getpid(), began())
    path, answer = run_dir / "restart.json", run_dir / f"restart.{request.id}"
    if not _waits(path):
        path.unlink(missing_ok=True)
    asked = answer.with_suffix(f".{request.id}.asked")
    write_private(asked, asdict(request))
    try:
        path.hardlink_to(asked)  # which never replaces a file that is there
    except FileExistsError:
        raise BadInput("another restart waits already for the one under way: try again once both are done") from None
    finally:
        asked.unlink()
    return answer


def _waits(path: Path) -> bool:
    """Whether a request is there whose asker still lives."""
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        return lives(int(body["pid"]), str(body["began"]))
    except (OSError, ValueError, KeyError, TypeError):
        return False  # none, or nobody's


def renewed(running: Settings, *, shards: Mapping[str, int]) -> Settings:
    """The settings as the environment and `.env` have them by now; what the run stands on stays as it is `running`.

    So a new token, password or key takes effect. Raises ConfigError where one of them is no good.
    """
    kept = {name: getattr(running, name) for name in PINNED}
    fresh = load_settings(**shards).model_copy(update=kept)
    return with_flower_password(with_token(fresh))


class Restarts:
    """Looks for requests and drives one restart at a time, between two looks of `up` at its children."""

    def __init__(
        self,
        supervisor: Supervisor,
        *,
        run_dir: Path,
        say: Callable[[str], None],
        table: Callable[[Settings], list[ChildSpec]],
        work: Work,
    ) -> None:
        """`table` raises ConfigError, or Failed, where the platform cannot be what the settings say."""
        self._supervisor, self._run_dir, self._say = supervisor, run_dir, say
        self._table, self._work = table, work
        self._rolling: Iterator[None] | None = None
        self._wanted: Settings | None = None
        self._given: dict[str, int] = {}  # numbers of shards by an earlier restart: they hold until the next `up`
        self._asked: dict[str, int] = {}  # those once this restart is done
        self._answer: Path | None = None
        self._told: list[str] = []
        self._unwritten = False
        for left in run_dir.glob("restart.*"):
            left.unlink(missing_ok=True)

    def tick(self, settings: Settings, change: Callable[[Settings], None]) -> None:
        """Goes on with the restart, or begins one that is asked for; `change` takes its settings in once it is done.

        Whatever goes wrong ends the restart, never the platform.
        """
        if self._unwritten:
            self._write()
        try:
            self._step(settings, change)
        except Failed as error:
            self._end(str(error), code=1)
        except (BadInput, ConfigError) as error:
            self._end(str(error), code=2)
        except Exception as error:  # noqa: BLE001 - whatever it was, every process is better off with `up`
            logger.exception("a restart broke off")
            self._clear()
            self._end(f"broke off ({type(error).__name__}: {error}); up.log has more, what runs runs on", code=1)

    def _step(self, settings: Settings, change: Callable[[Settings], None]) -> None:
        if self._rolling is not None:
            if next(self._rolling, self) is not self:
                return
            assert self._wanted is not None
            change(self._wanted)
            self._given = self._asked
            self._end("done", code=0)
        elif not self._unwritten and (request := self._read()) is not None:
            self._answer, self._told = self._run_dir / f"restart.{request.id}", []
            self._begin(request, settings)

    def _begin(self, request: Request, settings: Settings) -> None:
        asked = {name: value for name, value in request.settings.items() if name in SHARDS}
        # Single processes of other shards would have no counterpart.
        kept = {name: getattr(settings, name) for name in SHARDS} if request.names else self._given
        self._wanted = renewed(settings, shards={**kept, **asked})
        self._asked = {**self._given, **asked}
        table = self._table(self._wanted)
        rolling = Rolling(self._supervisor, say=self._tell, work=self._work)
        self._rolling = rolling.run(table, request.names)

    def _read(self) -> Request | None:
        path = self._run_dir / "restart.json"
        try:
            body: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            path.unlink()
            return Request(str(body["id"]), tuple(map(str, body["names"])), dict(body["settings"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            path.unlink(missing_ok=True)
            self._say(f"[yellow]![/] a request to restart could not be read: {type(error).__name__}")
            return None

    def _tell(self, text: str, *, done: bool = False, code: int = 0) -> None:
        self._say(f"[dim]restart:[/] {escape(text)}")
        self._told.append(json.dumps({"text": text, "done": done, "code": code}) + "\n")
        self._write()

    def _end(self, text: str, *, code: int) -> None:
        self._rolling = self._wanted = None
        self._tell(text, done=True, code=code)

    def _write(self) -> None:
        """The whole answer anew: on a full disk half of a line might be there. The next look tries again."""
        if self._answer is None:
            return
        fresh = self._answer.with_name(f"{self._answer.name}.new")
        try:
            fresh.write_text("".join(self._told), encoding="utf-8")
            fresh.replace(self._answer)
            self._unwritten = False
        except OSError as error:
            if not self._unwritten:
                logger.warning("the answer to a restart cannot be written", error=str(error))
            self._unwritten = True

    def _clear(self) -> None:
        """Ends what a broken restart had begun beside the others."""
        for child in list(self._supervisor.passing):
            try:
                child.stopped()
                self._supervisor.passing.remove(child)
            except subprocess.TimeoutExpired:
                logger.warning("a process does not end", pid=child.pid)
