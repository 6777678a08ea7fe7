"""Trade ids as ranges: duplicates inside a batch, and what a batch brings that is new. Pure numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.domain.trades import TradeBatch


class Distinct(NamedTuple):
    """A batch without repeated ids: rows sorted by (instrument, first id), and how many rows went out, why."""

    batch: TradeBatch
    repeated: int
    partial: int


def distinct(batch: TradeBatch) -> Distinct:
    """The batch with each id once.

    A multirange would merge a repeated id in silence and the bars would count it twice, so repeats go first. A row
    whose ids partly overlap another's cannot be split: it is refused and counted as partial, its ids stay a hole.
    """
    if not len(batch):
        return Distinct(batch, 0, 0)
    batch = batch.take(np.lexsort((-batch.last, batch.first, batch.instrument_id)))
    same = np.concatenate(([False], np.diff(batch.instrument_id) == 0))
    twin = same & np.concatenate(([False], (np.diff(batch.first) == 0) & (np.diff(batch.last) == 0)))
    repeated = int(twin.sum())
    if repeated:
        batch = batch.take(~twin)
    keep, partial, inside = _without_overlap(batch)
    return Distinct(batch.take(keep) if partial or inside else batch, repeated + inside, partial)


def _without_overlap(batch: TradeBatch) -> tuple[NDArray[np.bool_], int, int]:
    keep = np.ones(len(batch), np.bool_)
    same = np.diff(batch.instrument_id) == 0
    if not (same & (batch.first[1:] <= batch.last[:-1])).any():
        return keep, 0, 0
    partial = inside = 0
    instrument, end = -1, -1
    for row in range(len(batch)):
        if batch.instrument_id[row] != instrument:
            instrument, end = int(batch.instrument_id[row]), -1
        first, last = int(batch.first[row]), int(batch.last[row])
        if first > end:
            end = last
            continue
        keep[row] = False
        if last <= end:
            inside += 1  # an id of an aggregate that is here already
        else:
            partial += 1
    return keep, partial, inside


def id_ranges(batch: TradeBatch) -> dict[int, list[tuple[int, int]]]:
    """instrument id → [first, end) ranges of a distinct() batch, neighbours joined."""
    if not len(batch):
        return {}
    new = np.concatenate(([True], (np.diff(batch.instrument_id) != 0) | (batch.first[1:] != batch.last[:-1] + 1)))
    starts = np.flatnonzero(new)
    ends = np.concatenate((starts[1:], [len(batch)])) - 1
    ranges: dict[int, list[tuple[int, int]]] = {}
    columns = (batch.instrument_id[starts].tolist(), batch.first[starts].tolist(), (batch.last[ends] + 1).tolist())
    for instrument, first, end in zip(*columns, strict=True):
        ranges.setdefault(instrument, []).append((first, end))
    return ranges


def unknown(
    batch: TradeBatch, instrument_id: int, known: Sequence[tuple[int, int]]
) -> tuple[NDArray[np.bool_], int, int]:
    """Which rows of an instrument overlap nothing in `known` [first, end) ranges; and how many are known, partial."""
    mine = batch.instrument_id == instrument_id
    if not known:
        return mine, 0, 0
    starts = np.array([first for first, _ in known], np.int64)
    ends = np.array([end for _, end in known], np.int64)
    # The range that could hold a row is the last that starts at or before the row's last id.
    place = np.searchsorted(starts, batch.last, side="right") - 1
    touches = mine & (place >= 0) & (ends[place] > batch.first)
    covered = touches & (starts[place] <= batch.first) & (ends[place] > batch.last)
    return mine & ~touches, int(covered.sum()), int((touches & ~covered).sum())
