"""The faults in force, as a door of an exchange meets them: trades on their way out, requests on their way in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from itertools import count
from typing import NamedTuple, Protocol, Self

from app.sandbox.faults import FAR_US, Fault

HELD_S = 0.5  # wall time a reordered trade is held back at most
LATE_S = 90.0  # exchange time a late trade comes behind its own


class Traded(Protocol):
    """A trade of any exchange: a NamedTuple with at least these fields."""

    @property
    def time_us(self) -> int: ...
    @property
    def size(self) -> int: ...
    def _replace(self, *, size: int) -> Self: ...


class _Held[R](NamedTuple):
    until_passed: int
    since_s: float
    item: tuple[str, R]


class FaultList:
    """All faults that were asked for; every door reads the same list."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self.items = list(faults)
        self.version = 0

    def add(self, fault: Fault) -> None:
        """Put one more fault in force."""
        self.items.append(fault)
        self.version += 1

    def clear(self) -> None:
        """End all faults."""
        self.items.clear()
        self.version += 1


class FaultBox[R: Traded]:
    """The faults of one door of one exchange, and the trades they hold back."""

    def __init__(
        self,
        faults: FaultList,
        *,
        exchange: str,
        wall_s: Callable[[], float],
        now_us: Callable[[], int],
        door: str = "stream",
    ) -> None:
        """`wall_s` is a monotonic clock, `now_us` exchange time."""
        self._faults, self.exchange, self._door = faults, exchange, door
        self._wall_s, self._now_us = wall_s, now_us
        self._mine: list[Fault] = []
        self._active: list[Fault] = []
        self._looked = (-1, 0, 0)  # version of the list, exchange time in which _active holds
        self._held: list[_Held[R]] = []
        self._late: list[tuple[int, int, tuple[str, R]]] = []
        self._passed = 0
        self._order = count()

    @property
    def idle(self) -> bool:
        """Whether trades pass untouched."""
        self._look(self._looked[1])
        return not self._mine and not self._held and not self._late

    def forget_held(self) -> None:
        """Lose the trades held back: their connection has ended."""
        self._held.clear()
        self._late.clear()

    def hit(self, *kinds: str, path: str = "") -> Fault | None:
        """The first fault of these kinds that happens now, to a request of `path` or to a client."""
        hit = None
        for fault in self._in_force(self._now_us()):
            if fault.kind in kinds and fault.path in path and hit is None and fault.strikes():
                hit = fault
        return hit

    def skew_ms(self, time_us: int | None = None) -> int:
        """How far the exchange's clock is off at exchange time `time_us`, by default now."""
        total = 0.0
        for fault in self._in_force(self._now_us() if time_us is None else time_us):
            if fault.kind == "skew":
                fault.fired = 1
                total += fault.duration_s or 0.0
        return round(total * 1000)

    def deliver(self, symbol: str, row: R) -> tuple[list[tuple[str, R]], list[Fault]]:
        """What to send in place of `row` of `symbol`, and the faults the door itself must let strike.

        Those are disconnect, silence and shutdown after the trades, malformed before them.
        """
        self._passed += 1
        out, strikes, copies = [(symbol, row)], list[Fault](), 1
        for fault in self._in_force(row.time_us):
            if fault.kind in ("auth", "skew") or not fault.strikes():
                continue
            match fault.kind:
                case "drop":
                    out = []
                case "duplicate":
                    copies += 1
                case "revise":
                    out = [(symbol, one._replace(size=2 * one.size)) for _, one in out]
                case "late" if out:
                    self._hold_late(out.pop(), fault.duration_s)
                case "reorder" if out:
                    until = self._passed + fault.rng.randint(1, fault.span)
                    self._held.append(_Held(until, self._wall_s(), out.pop()))
                case "late" | "reorder":
                    fault.fired -= 1  # there is no trade left to hold back
                case _:
                    strikes.append(fault)
        return self._release_late(row.time_us) + out * copies + self._release(), strikes

    def overdue(self) -> list[tuple[str, R]]:
        """The trades held back for long enough, all of them once the faults are cleared."""
        latest = self._wall_s() - HELD_S if self._faults.items else float("inf")
        rows = [held.item for held in self._held if held.since_s <= latest]
        self._held = [held for held in self._held if held.since_s > latest]
        return rows + self._release_late(self._now_us() if self._faults.items else FAR_US)

    def _hold_late(self, item: tuple[str, R], delay_s: float | None) -> None:
        due_us = item[1].time_us + int((LATE_S if delay_s is None else delay_s) * 1_000_000)
        heappush(self._late, (due_us, next(self._order), item))

    def _release_late(self, now_us: int) -> list[tuple[str, R]]:
        rows = []
        while self._late and self._late[0][0] <= now_us:
            rows.append(heappop(self._late)[2])
        return rows

    def _release(self) -> list[tuple[str, R]]:
        if not self._held:
            return []
        rows = [held.item for held in self._held if held.until_passed <= self._passed]
        self._held = [held for held in self._held if held.until_passed > self._passed]
        return rows

    def _in_force(self, now_us: int) -> list[Fault]:
        version, since_us, until_us = self._looked
        if version != self._faults.version or not since_us <= now_us < until_us:
            self._look(now_us)
        return self._active

    def _look(self, now_us: int) -> None:
        """Choose the faults of this door in force at `now_us`, and note for how long that choice holds."""
        if self._looked[0] == self._faults.version and self._looked[1] <= now_us < self._looked[2]:
            return
        self._mine = [fault for fault in self._faults.items if fault.concerns(self.exchange, self._door)]
        edges = [edge for fault in self._mine for edge in (fault.at_us, fault.until_us) if edge]
        since_us = max((edge for edge in edges if edge <= now_us), default=0)
        until_us = min((edge for edge in edges if edge > now_us), default=FAR_US)
        self._active = [fault for fault in self._mine if fault.in_force(now_us)]
        self._looked = (self._faults.version, since_us, until_us)
