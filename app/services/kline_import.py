"""Import of klines: bulk files of the exchange's own bars, checked wholly first, then stored as verified.

Every transaction is short and whole, and what is there already is left alone: after a crash, or for good measure, the
command is run again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa

from app.domain.bar_columns import BarColumns
from app.domain.outbox import following
from app.domain.timeframes import Timeframe
from app.errors import BadFile, BadInput
from app.services.importing import POLL_S, SHOWN, STALL_S, Advance, ImportStalled, Progress
from app.services.stores import Bulk, Holes, Outbox

MOST = 2500  # bars in one transaction

KlineReader = Callable[..., Iterator[BarColumns]]  # app.wire.binance_kline_files.read_klines


@dataclass(slots=True)
class KlineFile:
    """A klines file and what the first reading of it found; without a row nothing of it is imported."""

    path: Path
    timeframe: Timeframe
    rows: int = 0
    first_ms: int = 2**63
    end_ms: int = 0
    rejected: int = 0
    shown: list[str] = field(default_factory=list)

    def add(self, bars: BarColumns) -> None:
        """Count the bars in."""
        self.rows += len(bars)
        self.first_ms = min(self.first_ms, bars.time_ms[0])
        self.end_ms = max(self.end_ms, bars.time_ms[-1] + self.timeframe.ms)

    def reject(self, error: BadFile) -> None:
        """Count a bad row; the first few are kept."""
        self.rejected += 1
        if len(self.shown) < SHOWN:
            self.shown.append(str(error))

    def leave_out(self, error: BadFile) -> None:
        """Nothing of it counts: a zip tells only at its end that what came before was damaged."""
        self.rows, self.first_ms, self.end_ms = 0, 2**63, 0
        self.reject(error)


class KlineCounts(NamedTuple):
    """What became of the rows: new or changed by them, known before, of bars that are not over yet."""

    changed: int
    known: int
    early: int


def check_klines(
    files: Sequence[tuple[Path, Timeframe]],
    reader: KlineReader,
    *,
    skip_bad: bool = False,
    advance: Advance | None = None,
) -> list[KlineFile]:
    """Reads every file wholly; raises BadFile for the first bad row, or BadInput where no row is left to import.

    With `skip_bad` bad rows, and files that cannot be read to their end, are listed and left out.
    """
    found = [KlineFile(path, tf) for path, tf in files]
    for file in found:
        try:
            for bars in reader(file.path, 0, file.timeframe, most=MOST, on_bad=file.reject if skip_bad else None):
                file.add(bars)
                if advance:
                    advance(len(bars))
            if not file.rows and not file.rejected:
                raise BadFile(str(file.path), "the file holds no kline")
        except BadFile as error:
            if not skip_bad:
                raise
            file.leave_out(error)
    if not any(file.rows for file in found):
        raise BadInput("nothing to import: " + "; ".join(line for file in found for line in file.shown[:1])[:500])
    return sorted(found, key=lambda file: (file.timeframe.ms, file.first_ms))


@dataclass(slots=True)
class KlineImporter:
    """Stores checked files and awaits what follows from them; stores are modules of app/storage."""

    engine: sa.Engine
    candles: Bulk
    holes: Holes
    outbox: Outbox
    progress: Progress
    reader: KlineReader
    now_ms: int  # exchange time: a bar that ends later is not over
    now_s: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def run(self, files: Sequence[KlineFile], instrument_id: int, *, advance: Advance | None = None) -> KlineCounts:
        """Imports the files; returns when all is rolled up and indicated. Raises ImportStalled, BadFile."""
        files = [file for file in files if file.rows]
        changed = stored = early = 0
        for file in files:
            claimed_ms: int | None = None
            for bars in self._read(file, instrument_id):
                over = bars.between(0, self.now_ms - file.timeframe.ms + 1)
                early += len(bars) - len(over)
                if len(over):
                    changed += self._store(over, file.timeframe, since_ms=claimed_ms)
                    claimed_ms = over.time_ms[-1] + file.timeframe.ms
                stored += len(over)
                if advance:
                    advance(len(bars))
        self._await(instrument_id, min(file.first_ms for file in files), max(file.end_ms for file in files))
        return KlineCounts(changed, stored - changed, early)

    def _read(self, file: KlineFile, instrument_id: int) -> Iterator[BarColumns]:
        """The bars again; what was bad was listed in the first reading."""
        on_bad: Callable[[BadFile], None] | None = (lambda _: None) if file.rejected else None
        yield from self.reader(file.path, instrument_id, file.timeframe, most=MOST, on_bad=on_bad)

    def _store(self, bars: BarColumns, tf: Timeframe, *, since_ms: int | None) -> int:
        """Stores and claims the bars, and what the file does not list between them and those before; counts changes."""
        first_ms, end_ms = bars.time_ms[0], bars.time_ms[-1] + tf.ms
        with self.engine.begin() as connection:
            changed = self.candles.replace(connection, bars, tf=tf, flats=True)
            lo_ms = first_ms if since_ms is None else min(since_ms, first_ms)
            self.holes.cover(connection, bars.instrument_id, lo_ms, end_ms, tf=tf)
            if changed:
                times = [time_ms for _, time_ms in changed]
                self.outbox.mark(connection, *following(bars.instrument_id, tf, times, flats=True))
        return len(changed)

    def _await(self, instrument_id: int, lo_ms: int, hi_ms: int) -> None:
        """Until no mark is left in [lo, hi)."""
        moved_s, last = self.now_s(), -1
        while True:
            marks = self.progress.import_progress(0, instrument_id, lo_ms, hi_ms)[2]
            if not marks:
                return
            if marks != last:
                moved_s, last = self.now_s(), marks
            if self.now_s() - moved_s > STALL_S:
                raise ImportStalled(
                    f"the bars are stored, but nothing derives from them: {marks} marks are left (see `status`)"
                )
            self.sleep(POLL_S)
