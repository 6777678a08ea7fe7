"""Goals as ratios of one run: subjects and peers in turn, round by round, the median of the rounds' ratios judged.

A case that misses a goal is measured once more, and the second time counts. Absolute times are printed to look at.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

Seconds = Mapping[str, Sequence[float]]  # way → what each round took


@dataclass(frozen=True, slots=True)
class Goal:
    """`subject` against `peer`: `bound` is its least speed, or with `most` its greatest cost, in those of the peer."""

    subject: str
    peer: str
    bound: float
    most: bool = False

    def ratios(self, seconds: Seconds) -> list[float]:
        """The ratio of each round."""
        pairs = zip(seconds[self.subject], seconds[self.peer], strict=True)
        return [own / peer if self.most else peer / own for own, peer in pairs]

    def met(self, seconds: Seconds) -> bool:
        """Whether the median of the rounds keeps to the bound."""
        found = median(self.ratios(seconds))
        return found <= self.bound if self.most else found >= self.bound

    def line(self, seconds: Seconds) -> str:
        """What was found, as text."""
        ratios = self.ratios(seconds)
        verdict = "met" if self.met(seconds) else "MISSED"
        kind, limit = ("times the time", "at most") if self.most else ("times as fast", "at least")
        return (
            f"  {verdict:6} {self.subject}: {median(ratios):.2f} {kind} of {self.peer} "
            f"({min(ratios):.2f} to {max(ratios):.2f}), {limit} {self.bound:g}"
        )


def in_turn(ways: Mapping[str, Callable[[int], float | None]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each way, round by round, after one round that is not counted.

    A way gets the round's number; one that has work outside its measure returns the seconds itself. Every other round
    goes backwards, so that nobody always comes after the same neighbour.
    """
    found: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name in list(ways) if turn % 2 else list(ways)[::-1]:
            began = time.perf_counter()
            own = ways[name](turn)
            took = time.perf_counter() - began if own is None else own
            if turn:
                found[name].append(took)
    return found


def judge(title: str, measure: Callable[[], Seconds], goals: Sequence[Goal], *, rows: int | None = None) -> bool:
    """Measures and prints one case; returns whether all its goals were met, at the second try if need be.

    `rows`: what each way writes or reads, for the rate.
    """
    for attempt in (1, 2):
        seconds = measure()
        print(f"\n{title}{'' if attempt == 1 else ', once more'}")
        for name, took in seconds.items():
            rate = f"{rows / median(took):11,.0f} rows/s" if rows else ""
            spread = f"({min(took) * 1000:.1f} to {max(took) * 1000:.1f})"
            print(f"  {name:42} {median(took) * 1000:9.1f} ms {spread:22} {rate}")
        for goal in goals:
            print(goal.line(seconds), flush=True)
        if all(goal.met(seconds) for goal in goals):
            return True
    return False
