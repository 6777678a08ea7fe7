"""Import: bulk files, checked wholly first, then sent the way live trades go, and awaited until their bars stand.

Running an import again is safe: the ledger knows every trade that is in, so a second run adds nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, Protocol

from app.domain.summaries import batch_id
from app.domain.timeframes import MINUTE_MS, MINUTE_US
from app.domain.trades import Mark, TradeBatch
from app.errors import BadFile, BadInput, PlatformError

SHOWN = 20  # rejected rows that are kept to be shown; all are counted
IN_FLIGHT = 64  # batches that may wait in the queue
IDLE_S = 30.0  # the queue stands still for so long: nobody works on it
STALL_S = 120.0  # nothing at all has moved for so long
POLL_S = 0.1


class ImportStalled(PlatformError):
    """Raised when an import stops moving; what was sent is safe and the command can be run again."""


class Left(NamedTuple):
    """What an import still waits for: batches applied so far, bars still open, outbox marks still there."""

    applied: int
    open_bars: int
    marks: int


class Counts(NamedTuple):
    """What became of an import's rows: new, known before, refused (partly known aggregates)."""

    accepted: int
    known: int
    refused: int


class Queue(Protocol):
    """Where batches go."""

    def send(self, batch: TradeBatch, shard: int) -> None:
        """Hand the batch to the workers of `shard`."""

    def waiting(self, shard: int) -> int:
        """How many batches wait for the workers of `shard`."""


class Progress(Protocol):
    """What the database says of a run."""

    def import_progress(self, run: int, instrument_id: int, lo_ms: int, hi_ms: int) -> tuple[int, int, int]:
        """(batches applied, bars open in [lo, hi), marks left there)."""

    def import_counts(self, run: int) -> tuple[int, int, int]:
        """(accepted, known, refused) rows of the run."""


Reader = Callable[..., Iterator[TradeBatch]]  # app.wire.binance_files.read_batches, up to now
Advance = Callable[[int], None]


@dataclass(slots=True)
class Facts:
    """What the first reading of a file found."""

    path: Path
    rows: int = 0
    trades: int = 0  # raw trades: an aggregate counts as many as it holds
    first_id: int = 2**63
    first_us: int = 2**63
    last_us: int = 0
    rejected: int = 0
    shown: list[str] = field(default_factory=list)

    def add(self, batch: TradeBatch) -> None:
        """Count the batch's rows in."""
        self.rows += len(batch)
        self.trades += int((batch.last - batch.first + 1).sum())
        self.first_id = min(self.first_id, int(batch.first.min()))
        self.first_us = min(self.first_us, int(batch.time_us.min()))
        self.last_us = max(self.last_us, int(batch.time_us.max()))

    def reject(self, error: BadFile) -> None:
        """Count a bad row; the first few are kept."""
        self.rejected += 1
        if len(self.shown) < SHOWN:
            self.shown.append(str(error))


@dataclass(frozen=True, slots=True)
class Checked:
    """Files that were read wholly, sorted by their first trade id, and what they hold together."""

    files: tuple[Facts, ...]
    rejected: int
    shown: tuple[str, ...]

    @property
    def rows(self) -> int:
        """Rows to import."""
        return sum(facts.rows for facts in self.files)

    @property
    def trades(self) -> int:
        """Raw trades the rows stand for."""
        return sum(facts.trades for facts in self.files)

    @property
    def span_ms(self) -> tuple[int, int]:
        """[start of the first minute, end of the last)."""
        first = min(facts.first_us for facts in self.files) // MINUTE_US
        last = max(facts.last_us for facts in self.files) // MINUTE_US
        return first * MINUTE_MS, (last + 1) * MINUTE_MS


def check(files: Sequence[Path], reader: Reader, *, skip_bad: bool = False, advance: Advance | None = None) -> Checked:
    """Reads every file wholly; raises BadFile for the first bad row, or BadInput where no row is left to import.

    With `skip_bad` bad rows, and files that cannot be read to their end, are listed and left out.
    """
    good: list[Facts] = []
    rejected, shown = 0, list[str]()
    for path in files:
        facts = Facts(path)
        try:
            for batch in reader(path, 0, most=5000, on_bad=facts.reject if skip_bad else None):
                facts.add(batch)
                if advance:
                    advance(len(batch))
            if facts.rows:
                good.append(facts)
            elif not facts.rejected:
                raise BadFile(str(path), "the file holds no trade")
        except BadFile as error:
            if not skip_bad:
                raise
            facts.reject(error)
        rejected += facts.rejected
        shown += facts.shown[: SHOWN - len(shown)]
    if not good:
        raise BadInput("nothing to import: " + "; ".join(shown[:1]))
    return Checked(tuple(sorted(good, key=lambda facts: facts.first_id)), rejected, tuple(shown))


@dataclass(slots=True)
class Importer:
    """Sends checked files as one run and awaits its bars; time is handed in."""

    queue: Queue
    progress: Progress
    reader: Reader
    most: int  # trades a batch
    shards: int = 1
    again_s: float = 75.0  # longer than a broker keeps what a killed worker held
    now_s: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def run(
        self, checked: Checked, instrument_id: int, *, exchange: str, run: int, advance: Advance | None = None
    ) -> Counts:
        """Imports the files; returns when all is committed, closed, rolled up and indicated. Raises ImportStalled.

        A worker that is killed between the broker and its bookkeeping takes a batch along. So once nothing has moved
        for `again_s`, what is not applied is sent again, under the same numbers: nothing counts twice.
        """
        sent = self._send(checked, instrument_id, exchange=exchange, run=run, advance=advance)
        applied = self._await_done(checked, instrument_id, run=run, sent=sent, still_s=self.again_s)
        if applied is not None:
            self._send(checked, instrument_id, exchange=exchange, run=run, after=applied)
            self._await_done(checked, instrument_id, run=run, sent=sent)
        return Counts(*self.progress.import_counts(run))

    def _send(
        self,
        checked: Checked,
        instrument_id: int,
        *,
        exchange: str,
        run: int,
        after: int = 0,
        advance: Advance | None = None,
    ) -> int:
        """Sends the batches whose number is above `after`; returns how many there are in all."""
        shard = instrument_id % self.shards
        since_us = checked.span_ms[0] * 1000
        sent = upto_us = 0
        for batch, over in self._with_last(checked, instrument_id):
            sent += 1
            upto_us = max(upto_us, int(batch.time_us.max()))
            if sent <= after:
                continue
            self._await_room(shard)
            subscribed = ((instrument_id, since_us),) if sent == 1 else None
            mark = Mark(
                run, sent, upto_us, exchange, kind="import", since_us=since_us, subscribed=subscribed, over=over
            )
            self.queue.send(replace(batch, mark=mark, id=batch_id(run, sent), sent_us=time.time_ns() // 1000), shard)
            if advance:
                advance(len(batch))
        return sent

    def _with_last(self, checked: Checked, instrument_id: int) -> Iterator[tuple[TradeBatch, bool]]:
        """Every batch, and whether it is the last."""
        held: TradeBatch | None = None
        for facts in checked.files:
            # Rows that were bad in the first reading were listed then.
            on_bad = (lambda _error: None) if facts.rejected else None
            for batch in self.reader(facts.path, instrument_id, most=self.most, on_bad=on_bad):
                if held is not None:
                    yield held, False
                held = batch
        if held is not None:
            yield held, True

    def _await_room(self, shard: int) -> None:
        moved_s, last = self.now_s(), self.queue.waiting(shard)
        while last >= IN_FLIGHT:
            self.sleep(POLL_S)
            waiting = self.queue.waiting(shard)
            if waiting < last:
                moved_s = self.now_s()
            elif self.now_s() - moved_s > IDLE_S:
                raise _nobody(shard, waiting)
            last = waiting

    def _await_done(
        self, checked: Checked, instrument_id: int, *, run: int, sent: int, still_s: float = STALL_S
    ) -> int | None:
        """Waits for the end; the number of batches applied where some are missing and nothing moved for `still_s`."""
        shard = instrument_id % self.shards
        state: tuple[Left, int] | None = None
        moved_s = self.now_s()
        while True:
            left = Left(*self.progress.import_progress(run, instrument_id, *checked.span_ms))
            if left == Left(sent, 0, 0) or (left.applied >= sent and not left.open_bars and not left.marks):
                return None
            waiting = self.queue.waiting(shard)
            if (left, waiting) != state:
                state, moved_s = (left, waiting), self.now_s()
            stands_s = self.now_s() - moved_s
            if waiting and stands_s > IDLE_S:
                raise _nobody(shard, waiting)
            if stands_s > still_s and still_s < STALL_S and not waiting and left.applied < sent:
                return left.applied
            if stands_s > STALL_S:
                raise ImportStalled(
                    f"the import stands still: {left.applied} of {sent} batches applied, {left.open_bars} bars open, "
                    f"{left.marks} marks left; what was sent is safe, run the command again (see `status`)"
                )
            self.sleep(POLL_S)


def _nobody(shard: int, waiting: int) -> ImportStalled:
    return ImportStalled(
        f"no worker takes batches from the queue trades.{shard} ({waiting} wait): is the platform up? "
        "What was sent is safe; run the command again"
    )
