"""What a task is about in a line that people can read: shown by Flower and in logs in place of its arguments' bytes.

A batch is known by its id everywhere: the run in hex and the number within the run, `1a2b-3`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

import numpy as np

from app.domain.official import OfficialBatch
from app.domain.trades import TradeBatch
from app.errors import BadInput

SHOWN = 3  # instruments named
_BATCH = re.compile(r"batch ([0-9a-f]+-\d+)\b")
_ID = re.compile(r"([0-9a-f]{1,16})-(\d{1,18})")

Names = Mapping[int, str]  # instrument id → symbol


def of_trades(batch: TradeBatch, names: Names) -> str:
    """`batch 1a2b-3: 128 trades of BTC/USDT, ETH/USDT (binance, up to 14:25:03.120)`."""
    n, mark = len(batch), batch.mark
    what = f"{n:,} trade{'s' if n != 1 else ''} of {_named(np.unique(batch.instrument_id).tolist(), names)}"
    where = [] if mark is None else [mark.exchange, *([f"up to {_clock(mark.upto_us)}"] if mark.upto_us else [])]
    where += ["import"] if mark is not None and mark.kind == "import" else []
    return f"batch {batch.id or '?'}: {what if n else 'no trades'}" + (f" ({', '.join(where)})" if where else "")


def of_official(batch: OfficialBatch, names: Names) -> str:
    """`12 bars of the exchange's own of BTC/USDT, 1 doubt (binance)`."""
    ids = sorted({bar.instrument_id for bar in batch.bars} | {doubt.instrument_id for doubt in batch.doubts})
    bars, doubts = len(batch.bars), len(batch.doubts)
    told = [f"{bars:,} bar{'s' if bars != 1 else ''} of the exchange's own"] if bars or not doubts else []
    told += [f"{doubts:,} doubt{'s' if doubts != 1 else ''}"] if doubts else []
    return f"{', '.join(told)} of {_named(ids, names)} ({batch.exchange})"


def batch_in(summary: object) -> str | None:
    """The batch id that a summary of of_trades() begins with."""
    found = _BATCH.match(summary) if isinstance(summary, str) else None
    return found[1] if found else None


def batch_id(run: int, n: int) -> str:
    """How batch `n` of `run` is called everywhere."""
    return f"{run:x}-{n}"


def batch_place(text: str) -> tuple[int, int]:
    """(run, n) of a batch's id; raises BadInput."""
    found = _ID.fullmatch(text.strip().lower())
    if found is None or int(found[1], 16) >= 2**63:
        raise BadInput(f"{text!r} is no batch: write it as logs and updates do, such as 65f1c0d2a4b1e-42")
    return int(found[1], 16), int(found[2])


def _named(ids: list[int], names: Names) -> str:
    shown = [names.get(i, f"instrument {i}") for i in ids[:SHOWN]]
    more = [f"{len(ids) - SHOWN} more"] if len(ids) > SHOWN else []
    return ", ".join([*shown, *more]) or "nothing"


def _clock(time_us: int) -> str:
    moment = datetime.fromtimestamp(time_us // 1_000_000, UTC)
    return f"{moment:%H:%M:%S}.{time_us % 1_000_000 // 1000:03d}"
