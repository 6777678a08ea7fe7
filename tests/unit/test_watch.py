"""What a client that was away is told after its chart: the gaps there are now, though nothing changes any more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.domain.instruments import Exchange, Instrument
from app.domain.timeframes import Timeframe
from webapp.board import Board
from webapp.channels import SeriesChannel
from webapp.feeds import Feeds
from webapp.watch import GAPS_S, Watch

BTC = Instrument(1, Exchange.BINANCE, "BTC/USDT", "BTCUSDT", "crypto", "USDT", "24/7", True, 2)
GAP = {"start": 600_000, "end": 1_200_000}


class FakeRedis:
    """Takes the tokens that make remembered charts stale."""

    renewed = 0

    def delete(self, *_names: str) -> None:
        self.renewed += 1

    def mset(self, _tokens: Mapping[str, bytes]) -> None:
        return


class Gaps:
    """The gaps of BTC/USDT as the database has them; None while it is away."""

    def __init__(self) -> None:
        self.now: list[dict[str, Any]] | None = [GAP]

    def read(self, instruments: Sequence[Instrument]) -> dict[int, list[dict[str, Any]]]:
        return {} if self.now is None else {each.id: self.now for each in instruments}


def watched() -> tuple[Watch, Gaps, FakeRedis, SeriesChannel]:
    client: Any = FakeRedis()
    gaps = Gaps()
    channel = SeriesChannel(BTC, Timeframe.M1, board=Board(), every_s=0.1)
    return Watch(client, Feeds(client), read_gaps=gaps.read), gaps, client, channel


def look(watch: Watch, channel: SeriesChannel) -> set[int]:
    watch._gaps_at = -GAPS_S
    return watch._look_at_gaps([channel])


def test_a_fresh_client_is_told_of_gaps_that_were_repaired_while_it_was_away() -> None:
    watch, gaps, client, channel = watched()
    assert b'"type":"holes"' in watch.initial(channel) and b'"start":600000' in watch.initial(channel)
    assert look(watch, channel) == {BTC.id}
    gaps.now, before = [], client.renewed
    assert b'"type":"holes","channel":"binance:BTC/USDT@1m","data":[]' in watch.initial(channel)
    assert client.renewed == before + 1, "no process answers with a chart from before"
    assert look(watch, channel) == {BTC.id}, "those who are connected are told, too"
    assert b'"data":[]' in watch.initial(channel), "and who comes later, when nothing changes any more"


def test_with_the_database_away_no_gap_is_called_repaired() -> None:
    watch, gaps, _, channel = watched()
    gaps.now = None
    assert look(watch, channel) == set() and b"holes" not in watch.initial(channel)
    gaps.now = [GAP]
    assert look(watch, channel) == {BTC.id}
    gaps.now = None
    assert look(watch, channel) == set() and watch._gaps == {BTC.id: [GAP]}
