"""A rolling restart: the children of a running platform are replaced one after the other, and none is missed.

Where two of a kind may run side by side, the new one serves before the old one is told to leave; one that does not come
to serve is ended again, and the old one stays. The others are ended first. Who reads is replaced before those whose
messages it reads: web, workers, beat, streamers. So a newer message never waits for a reader that does not know it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from signal import SIGKILL, SIGTERM, Signals
from typing import Protocol

from app.errors import BadInput
from app.local.child import Child, ChildSpec, State
from app.local.supervisor import Supervisor

SERVE_S = 90.0  # longest a successor may take to serve
LEAVE_S = 30.0  # longest a predecessor may take to finish what it has begun: a task is shorter
DRAIN_S = 120.0  # longest a worker whose queue goes away waits for it to be empty
READERS_FIRST = ("web", "flower", "worker", "beat", "streamer", "sandbox")
SPARED = {"sandbox"}  # the market is no part of the platform: only who names it restarts it

Waiting = Iterator[None]
"""A step's wait: whoever drives it comes back in a moment."""


class Work(Protocol):
    """What is left to do for the workers."""

    def left(self, queues: Sequence[str]) -> int:
        """How many messages wait in these queues, or were taken from them and are not done; 1 where nobody knows."""

    def close(self) -> None:
        """Lets go of connections; the next question opens another."""


class Failed(Exception):
    """Raised inside a restart when a successor does not come to serve; the text says what stays."""


class Rolling:
    """One restart; `run` is driven by whoever looks after the children, between two looks."""

    def __init__(self, supervisor: Supervisor, *, say: Callable[[str], None], work: Work) -> None:
        self._supervisor, self._say, self._work = supervisor, say, work

    def run(self, table: Sequence[ChildSpec], names: Sequence[str]) -> Waiting:
        """Makes the children those of `table`, or only `names` of them; raises Failed or BadInput."""
        try:
            yield from self._run(table, names)
        finally:
            self._work.close()

    def _run(self, table: Sequence[ChildSpec], names: Sequence[str]) -> Waiting:
        children, wanted = self._supervisor.children, {spec.name: spec for spec in table}
        if unknown := [name for name in names if name not in wanted]:
            raise BadInput(f"no process {', '.join(map(repr, unknown))}; there are {', '.join(wanted)}")
        chosen = names or [name for name in wanted if name not in SPARED]
        for name in sorted(chosen, key=_rank):
            yield from self._replace(wanted[name], children.get(name))
        unneeded = [] if names else [name for name in children if name not in wanted]
        for name in sorted(unneeded, key=_rank, reverse=True):
            # Who sends is gone by now; who reads leaves when nothing is left to read.
            yield from self._leave(children[name])

    def _replace(self, spec: ChildSpec, old: Child | None) -> Waiting:
        if old is None or not spec.beside:
            yield from self._start_again(spec, old)
            return
        began, supervisor = time.monotonic(), self._supervisor
        new = supervisor.successor(spec, turn=old.turn + 1)
        try:
            yield from self._served(new)
            yield from _pause(spec.overlap_s)
        except Failed:
            yield from self._end(new)
            raise
        supervisor.passing.remove(new)
        supervisor.children[spec.name] = new
        supervisor.passing.append(old)
        yield from self._end(old)
        self._say(f"{spec.name} replaced ({time.monotonic() - began:.1f} s), the new one served first")

    def _start_again(self, spec: ChildSpec, old: Child | None) -> Waiting:
        began, supervisor = time.monotonic(), self._supervisor
        if old is not None:
            del supervisor.children[spec.name]
            supervisor.passing.append(old)
            yield from self._end(old)
        new = supervisor.successor(spec, turn=0)
        supervisor.passed(new)
        supervisor.children[spec.name] = new  # from here on a death is a death as any other
        yield from self._served(new)
        done = "started" if old is None else "ended and started again"
        self._say(f"{spec.name} {done} ({time.monotonic() - began:.1f} s)")

    def _served(self, child: Child) -> Waiting:
        deadline = time.monotonic() + SERVE_S
        while child.state is not State.READY:
            child.look()
            if child.state in {State.RESTARTING, State.GIVEN_UP} or time.monotonic() > deadline:
                why = "ended at once" if child.code is not None else f"did not serve within {SERVE_S:.0f} s"
                raise Failed(
                    f"the new {child.spec.name} {why} ({child.traces}): nothing after it was touched, and what could "
                    "run on runs on"
                )
            yield

    def _leave(self, child: Child) -> Waiting:
        spec = child.spec
        others = [other.spec for other in self._supervisor.children.values() if other is not child]
        read = {queue for other in others for queue in _queues(other)}
        queues = [queue for queue in _queues(spec) if queue not in read]  # those of others are never empty for long
        deadline = time.monotonic() + DRAIN_S
        while True:
            while (left := self._left(queues)) and time.monotonic() < deadline:
                yield
            if left:
                raise Failed(f"{left} messages wait for {spec.name} still: it stays; restart again once they are done")
            child = self._supervisor.children.pop(spec.name)
            self._supervisor.passing.append(child)
            yield from self._end(child)
            if not self._left(queues):
                break
            # It gave back what it had taken in its last moment, and nobody else would ever read that.
            yield from self._start_again(spec, None)
        self._say(f"{spec.name} is not needed any more: ended")

    def _left(self, queues: Sequence[str]) -> int:
        return self._work.left(queues) if queues else 0

    def _end(self, child: Child) -> Waiting:
        """Ends a child of `passing`: politely, then as its kind is told to give its work back, then by force."""
        yield from self._signalled(child, SIGTERM, LEAVE_S)
        if child.running and child.spec.cold_signal is not None:
            yield from self._signalled(child, child.spec.cold_signal, LEAVE_S)
        if child.running:
            self._say(f"{child.spec.name} did not leave in time: killed")
            yield from self._signalled(child, SIGKILL, LEAVE_S)
        child.stopped()
        self._supervisor.passed(child)

    def _signalled(self, child: Child, number: Signals, patience_s: float) -> Waiting:
        child.signal(number)
        deadline = time.monotonic() + patience_s
        while child.running and time.monotonic() < deadline:
            yield


def _pause(seconds: float) -> Waiting:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield


def _queues(spec: ChildSpec) -> list[str]:
    return spec.argv[spec.argv.index("-Q") + 1].split(",") if "-Q" in spec.argv else []


def _rank(name: str) -> tuple[int, str]:
    kind = name.partition("-")[0]
    return (READERS_FIRST.index(kind) if kind in READERS_FIRST else len(READERS_FIRST), name)
