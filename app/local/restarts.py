"""How `python -m app restart` asks a running `up` for a restart: a file in its run directory, and one for the answer.

The directory is its owner's alone, as everything in DATA_DIR that counts.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from app.config import Settings, load_settings
from app.errors import BadInput, ConfigError
from app.local.child import ChildSpec
from app.local.rolling import Failed, Rolling
from app.local.runfile import write_private
from app.local.supervisor import Supervisor

SHARDS = ("trade_shards", "stream_shards")  # settings that a restart may change


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be restarted: these processes or all of them; `settings` are other numbers of shards."""

    id: str
    names: tuple[str, ...] = ()
    settings: dict[str, int] = field(default_factory=dict)


def ask(run_dir: Path, names: Sequence[str], settings: dict[str, int]) -> Path:
    """Leaves a request for `up`; returns the file that its answer grows in."""
    run_dir.mkdir(parents=True, exist_ok=True)
    request = Request(secrets.token_hex(8), tuple(names), settings)
    write_private(run_dir / "restart.json", asdict(request))
    return run_dir / f"restart.{request.id}"


class Restarts:
    """Looks for requests and drives one restart at a time, between two looks of `up` at its children."""

    def __init__(
        self,
        supervisor: Supervisor,
        *,
        run_dir: Path,
        say: Callable[[str], None],
        table: Callable[[Settings], list[ChildSpec]],
        waiting: Callable[[ChildSpec], int],
    ) -> None:
        self._supervisor, self._run_dir, self._say = supervisor, run_dir, say
        self._table, self._waiting = table, waiting
        self._rolling: Iterator[None] | None = None
        self._answer: Path | None = None
        for left in run_dir.glob("restart.*"):
            left.unlink(missing_ok=True)

    def tick(self, settings: Settings, change: Callable[[Settings], None]) -> None:
        """Goes on with the restart, or begins one that is asked for; `change` takes in other numbers of shards."""
        if self._rolling is None:
            request = self._read()
            if request is not None:
                self._begin(request, settings, change)
            return
        try:
            next(self._rolling)
        except StopIteration:
            self._tell("done", done=True, code=0)
        except Failed as error:
            self._tell(str(error), done=True, code=1)
        except BadInput as error:
            self._tell(str(error), done=True, code=2)

    def _begin(self, request: Request, settings: Settings, change: Callable[[Settings], None]) -> None:
        self._answer = self._run_dir / f"restart.{request.id}"
        try:
            values = {name: value for name, value in request.settings.items() if name in SHARDS}
            load_settings(**values)  # are they numbers that the settings allow?
        except ConfigError as error:
            self._tell(str(error), done=True, code=2)
            return
        wanted = settings.model_copy(update=values)
        change(wanted)
        rolling = Rolling(self._supervisor, say=self._tell, waiting=self._waiting)
        self._rolling = rolling.run(self._table(wanted), request.names)

    def _read(self) -> Request | None:
        path = self._run_dir / "restart.json"
        try:
            body: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            path.unlink()
            return Request(str(body["id"]), tuple(body["names"]), dict(body["settings"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            path.unlink(missing_ok=True)
            self._say(f"[yellow]![/] a request to restart could not be read: {type(error).__name__}")
            return None

    def _tell(self, text: str, *, done: bool = False, code: int = 0) -> None:
        self._say(f"[dim]restart:[/] {text}")
        if self._answer is not None:
            with self._answer.open("a", encoding="utf-8") as answer:
                answer.write(json.dumps({"text": text, "done": done, "code": code}) + "\n")
        if done:
            self._rolling = self._answer = None
