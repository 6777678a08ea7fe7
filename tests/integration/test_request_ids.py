"""The ids of requests: whose are believed, where they are told, and how summaries of tasks read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from loguru import logger

from app.config import Settings
from app.domain import summaries
from app.domain.official import Doubt, OfficialBar, OfficialBatch
from app.domain.timeframes import Timeframe
from app.domain.trades import Mark, Trade, TradeBatch
from app.errors import BadInput
from webapp import create_app


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    """What is logged meanwhile: the fields of each line, and its message."""
    found: list[dict[str, Any]] = []
    sink = logger.add(
        lambda said: found.append({**said.record["extra"], "message": said.record["message"]}), level="DEBUG"
    )
    yield found
    logger.remove(sink)


def test_a_request_has_one_id_in_its_answer_its_error_and_its_log_lines(
    settings: Settings, lines: list[dict[str, Any]]
) -> None:
    client = create_app(settings).test_client()
    answer = client.get("/api/charts/NO-SUCH", headers={"X-Request-ID": "chosen-by-a-client"})
    name = answer.headers["X-Request-ID"]
    assert re.fullmatch(r"[0-9a-f]{16}", name) and answer.get_json()["error"]["request_id"] == name
    (line,) = [line for line in lines if line.get("request_id") == name and line["message"] == "request"]
    assert (line["method"], line["route"], line["status"]) == ("GET", "/api/charts/<path:symbol>", 404)
    assert 0 <= line["ms"] < 60_000
    assert client.get("/api/health/live").headers["X-Request-ID"] != name
    assert client.get("/nothing-here").headers["X-Request-ID"]
    assert [line["status"] for line in lines if line["message"] == "request"] == [404, 200, 404]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("7f3a-from.proxy_1", True),
        ("short", False),
        ("x" * 65, False),
        ("a b c d e f g", False),
        ("id-1<script>", False),
    ],
)
def test_an_id_of_a_trusted_proxy_is_kept_where_it_is_well_formed(settings: Settings, given: str, kept: bool) -> None:
    client = create_app(settings.model_copy(update={"trusted_proxies": 1})).test_client()
    told = client.get("/api/health/live", headers={"X-Request-ID": given}).headers["X-Request-ID"]
    assert (told == given) is kept and re.fullmatch(r"[A-Za-z0-9._:-]{8,64}", told)


NAMES = {1: "BTC/USDT", 2: "ETH/USDT", 3: "SOL/USDT", 4: "BNB/USDT"}
UPTO_US = 1_795_369_500_120_999


def _batch(*ids: int, mark: Mark | None) -> TradeBatch:
    trades = [Trade(i, 1_000_000, n, n, 100, 100, True) for n, i in enumerate(ids, 1)]
    return TradeBatch.of(trades, mark=mark, id="1a2b-3")


def test_a_batch_is_told_in_words() -> None:
    mark = Mark(0x1A2B, 3, UPTO_US, "binance")
    clock = "(binance, up to 17:45:00.120)"
    told = [summaries.of_trades(_batch(*ids, mark=mark), NAMES) for ids in ((1,), (2, 1, 1), (1, 2, 3, 4, 7), ())]
    assert told == [
        f"batch 1a2b-3: 1 trade of BTC/USDT {clock}",
        f"batch 1a2b-3: 3 trades of BTC/USDT, ETH/USDT {clock}",
        f"batch 1a2b-3: 5 trades of BTC/USDT, ETH/USDT, SOL/USDT, 2 more {clock}",
        f"batch 1a2b-3: no trades {clock}",
    ]
    assert summaries.of_trades(_batch(9, mark=None), {}) == "batch 1a2b-3: 1 trade of instrument 9"
    imported = Mark(0x1A2B, 3, 0, "binance", kind="import")
    assert summaries.of_trades(_batch(1, mark=imported), NAMES) == "batch 1a2b-3: 1 trade of BTC/USDT (binance, import)"
    assert {summaries.batch_in(text) for text in told} == {"1a2b-3"} and summaries.batch_in("(…)") is None


def test_official_bars_are_told_in_words() -> None:
    zero = Decimal(0)
    bar = OfficialBar(1, Timeframe.M1, 0, 1.0, 1.0, 1.0, 1.0, zero, zero, zero, 0)
    doubt = Doubt(2, 0, 60_000, "cancel")
    assert summaries.of_official(OfficialBatch("alpaca", [bar, bar], [doubt]), NAMES) == (
        "2 bars of the exchange's own, 1 doubt of BTC/USDT, ETH/USDT (alpaca)"
    )
    assert summaries.of_official(OfficialBatch("alpaca", [], [doubt]), {}) == "1 doubt of instrument 2 (alpaca)"


def test_an_id_and_its_place_are_the_same_thing() -> None:
    for run, n in ((1, 1), (2**63 - 1, 10**9), (0x13B71B70C7F3, 42)):
        assert summaries.batch_place(summaries.batch_id(run, n)) == (run, n)
    for bad in ("", "1a2b", "-3", "xyz-1", "1-", f"{2**63:x}-1", "1a2b-3; x"):
        with pytest.raises(BadInput, match="no batch"):
            summaries.batch_place(bad)
