"""A hostile review of sources and streamers: what must hold live, in parts that need no server."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from websockets.frames import Frame, Opcode

from app.config import load_settings
from app.domain.bars import Bar
from app.domain.instruments import Exchange, Instrument
from app.domain.pace import Pace
from app.domain.sessions import Window
from app.domain.timeframes import MINUTE_MS
from app.errors import RateLimited, SourceError
from app.logs import setup_logging
from app.services.polling import Polling, _Due
from app.services.sweep import Sweep
from app.sources.yahoo import YahooHistory
from app.wire.alpaca_values import Print
from app.wire.yahoo import Chart, Meta
from streamers.alpaca_amendments import Amendments
from streamers.binance import BinanceStreamer
from streamers.daemon import Ports, Shard
from streamers.feed import Feed

NOW_MS = 1_700_000_040_000 // MINUTE_MS * MINUTE_MS


def item(id: int, exchange: Exchange, symbol: str, calendar: str = "24/7") -> Instrument:
    return Instrument(id, exchange, symbol, symbol.replace("/", ""), "x", "USD", calendar, True, 2)


BITCOIN, APPLE = item(1, Exchange.BINANCE, "BTC/USDT"), item(6, Exchange.ALPACA, "AAPL", "XNYS")


# 1 --- minor units -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["GBp", "ZAc"])
def test_pence_and_cents_are_not_taken_for_pounds_and_rand(unit: str, tmp_path: Path) -> None:
    """VOD.L is quoted 75.3 GBp, which is 0.753 GBP: the letter case is the whole difference."""
    meta = Meta("VOD.L", unit, "LSE", "LSE", "Vodafone", "Europe/London", 0, 2, 75.3, 1, None)
    source = YahooHistory(load_settings(data_dir=tmp_path, _env_file=None), now_us=lambda: NOW_MS * 1000)
    source._opened = cast(Any, SimpleNamespace(ask=lambda _symbol: Chart(meta, [])))
    assert source.describe("VOD.L").currency == unit


# 2 --- one exchange's ban is no other's ----------------------------------------------------------------------------


class _Official:
    def unverified(self, connection: Any, *, resting: Any, **_: Any) -> list[tuple[int, int, int]]:
        tired = set(resting)
        found = [(1, NOW_MS - 2400 * MINUTE_MS, NOW_MS - 1200 * MINUTE_MS), (6, *[NOW_MS - 20 * MINUTE_MS] * 2)]
        return [one for one in found if one[0] not in tired][:1]

    def unchecked(self, connection: Any, exchanges: Any, **_: Any) -> list[tuple[int, int, int]]:
        return [(6, NOW_MS - 30 * MINUTE_MS, NOW_MS - 10 * MINUTE_MS)]

    def checked(self, connection: Any, instrument_id: int, until_ms: int) -> None: ...


@contextmanager
def _begin() -> Iterator[None]:
    yield None


def swept(official: object, history: Any) -> Sweep:
    """A sweep of bitcoin and Apple on stores that hold nothing."""
    given: dict[str, Any] = {
        "engine": SimpleNamespace(begin=_begin),
        "official": official,
        "candles": SimpleNamespace(read_many=lambda *_, **__: []),
        "verify": SimpleNamespace(take=lambda *_, **__: 0),
        "catalogue": lambda ids: {one.id: one for one in (BITCOIN, APPLE) if one.id in ids},
        "expected": SimpleNamespace(windows=lambda _c, _i, lo, hi: [Window(lo, hi)]),
        "history": history,
        "clock": SimpleNamespace(now_us=lambda: NOW_MS * 1000),
        "grace_s": 2.0,
        "after_s": 20.0,
        "every_s": 900.0,
    }
    return Sweep(**{field.name: given[field.name] for field in fields(Sweep) if field.name in given})


def test_a_ban_of_one_exchange_does_not_end_the_verification_of_another() -> None:
    asked: list[str] = []

    class Source:
        def klines(self, instrument: Instrument, *_: Any) -> list[Bar]:
            asked.append(instrument.exchange.value)
            if instrument is BITCOIN:
                raise RateLimited("banned until tomorrow", retry_after_s=86_400)
            return []

    sweep = swept(_Official(), lambda _: Source())
    for _ in range(5):
        sweep.run()
    assert "alpaca" in asked, f"five turns, and only {Counter(asked)} was asked"


# 3 --- a task that dies in silence ---------------------------------------------------------------------------------


async def test_a_feed_that_dies_of_a_defect_ends_the_streamer_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    async def defect(self: Feed) -> None:
        raise RuntimeError("a defect of ours")

    monkeypatch.setattr(Feed, "run", defect)
    queue = SimpleNamespace(send=lambda *_: None, send_official=lambda *_: None)
    clock = SimpleNamespace(now_us=lambda: NOW_MS * 1000)
    ports = Ports(
        clock, cast(Any, queue), lambda: [BITCOIN], lambda s: time.sleep(min(s, 0.05)), lambda _f, _r: Counter()
    )
    streamer, stop = BinanceStreamer(load_settings(_env_file=None), ports, Shard(0, 1)), asyncio.Event()
    task = asyncio.create_task(streamer.run(stop))
    done, _ = await asyncio.wait({task}, timeout=3)
    stop.set()
    if done:
        with pytest.raises(RuntimeError, match="a defect of ours"):
            task.result()
        return
    await asyncio.wait({task}, timeout=10)
    pytest.fail(f"the only feed is dead, and the streamer goes on and says {streamer.facts()['feed']!r}")


# 4 --- the key in the log ------------------------------------------------------------------------------------------


def test_a_debug_log_does_not_hold_alpacas_key(tmp_path: Path) -> None:
    import msgpack

    secret = "Zr8Kq1vTn5XwYb3M"
    settings = load_settings(
        log_level="DEBUG", log_dir=tmp_path, log_console=False, data_dir=tmp_path, alpaca_api_key="PKAAAABBBBCCCCDDDD",
        alpaca_secret_key=secret, _env_file=None,
    )  # fmt: skip
    setup_logging(settings, process="test")
    payload = msgpack.packb({"action": "auth", "key": settings.alpaca_api_key, "secret": secret})
    try:
        logger = logging.getLogger("websockets.client")
        if logger.isEnabledFor(logging.DEBUG):  # as websockets.legacy.protocol does with every frame
            logger.debug("> %s", Frame(Opcode.BINARY, payload))
        logging.getLogger("marker").warning("written")
        text = (tmp_path / "test.log").read_text()
    finally:
        setup_logging(load_settings(log_dir=tmp_path, log_console=False, _env_file=None), process="other")
    tail = " ".join(f"{byte:02x}" for byte in secret[-8:].encode())
    assert "written" in text and secret not in text
    assert tail not in text, "the last eight characters of the secret stand in the log, as hex"


# 5 --- a print's cost ----------------------------------------------------------------------------------------------


def test_remembering_a_print_costs_no_more_once_the_memory_is_full() -> None:
    def seconds(known: Amendments, first: int, n: int) -> float:
        began = time.process_time()  # whatever else the machine does
        for i in range(first, first + n):
            known.remember(1, Print("A", 60_000_000, i, "V", 1, 1, (), "C"))
        return time.process_time() - began

    known = Amendments()
    seconds(known, 0, 20_000)
    filling = seconds(known, 20_000, 60_000) / 60_000
    seconds(known, 80_000, 30_000)
    full = seconds(known, 110_000, 90_000) / 90_000
    assert full < 3 * filling, f"{full * 1e6:.1f} µs a print, {filling * 1e6:.1f} before"


# 6 --- after a ban ------------------------------------------------------------------------------------------------


def test_the_sweep_reaches_back_further_than_a_ban_lasts() -> None:
    """Binance bans for up to three days (LONGEST_WAIT_S): bars closed meanwhile are verified afterwards."""
    seen: dict[str, int] = {}

    class Official(_Official):
        def unverified(self, connection: Any, *, resting: Any, **bounds: Any) -> list[tuple[int, int, int]]:
            seen.update(bounds)
            return []

        def unchecked(self, *_: Any, **__: Any) -> list[tuple[int, int, int]]:
            return []

    swept(Official(), lambda _: None).run()
    from app.sources.binance import LONGEST_WAIT_S

    assert (NOW_MS - seen["lo_ms"]) / 1000 > LONGEST_WAIT_S


# 7 --- one symbol's trouble ----------------------------------------------------------------------------------------


def test_a_symbol_that_fails_with_a_defect_does_not_stop_the_other_polls() -> None:
    """yfinance's cache on a full or read-only disk raises OSError or peewee's errors, which are none of ours."""
    asked: list[str] = []

    class Source:
        def klines(self, instrument: Instrument, *_: Any) -> list[Bar]:
            asked.append(instrument.symbol)
            if instrument.symbol == "BAD.IS":
                raise OSError("No space left on device")
            raise SourceError("asked, which is all that counts here")

    names = [field.name for field in fields(Polling)][:19]
    given: dict[str, Any] = dict.fromkeys(names)
    given |= {
        "engine": SimpleNamespace(begin=_begin),
        "settled": SimpleNamespace(extend=lambda *_, **__: 0),
        "candles": SimpleNamespace(read=lambda *_, **__: []),
        "publisher": SimpleNamespace(count=lambda _: None),
        "paces": SimpleNamespace(rest_s=lambda: 0, put=lambda _: None),
        "history": lambda _: Source(),
    }
    polling = Polling(**{name: value for name, value in given.items() if name not in {"exchange", "wall_s", "draw"}})
    day = [Window(NOW_MS - 6 * 60 * MINUTE_MS, NOW_MS + 60 * MINUTE_MS)]
    bad, good = (item(20 + n, Exchange.YAHOO, name, "XIST") for n, name in enumerate(("BAD.IS", "GOOD.IS")))
    until = NOW_MS - 60 * MINUTE_MS
    due = [_Due(one, until, NOW_MS - 16 * MINUTE_MS, day, Pace()) for one in (bad, good)]
    with suppress(OSError):
        polling._ask(due, {20: Pace(), 21: Pace()}, NOW_MS)
    assert asked == ["BAD.IS", "GOOD.IS"]
