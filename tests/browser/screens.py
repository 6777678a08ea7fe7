"""The stub's screener: the platform's own language of screens over the stub's made-up bars."""

from __future__ import annotations

from collections.abc import Mapping

from app.domain.screening import BadScreen, parse_conditions, parse_order, select
from app.domain.timeframes import Timeframe
from app.services.screener import Screen
from tests.browser.generated import Row
from tests.browser.market import Market

__all__ = ["BadScreen", "screen"]


def screen(market: Market, asked: Mapping[str, str]) -> Row:
    """The answer of /api/screener."""
    tf = Timeframe(asked.get("timeframe", "1h"))
    order = parse_order(asked["sort"]) if "sort" in asked else None
    wanted = Screen(tf, parse_conditions(asked.get("where", "")), order)
    rows = market.overview()["instruments"]
    looked = [row for row in rows if asked.get("exchange", row["exchange"]) == row["exchange"]]
    figures = [_figures(market, row, tf.value) for row in looked]
    fit = select(figures, wanted.conditions)
    if order is not None:
        values = {place: order.term.value(figures[place]) for place in fit}
        sign = -1 if order.descending else 1
        fit.sort(key=lambda place: (values[place] is None, sign * (values[place] or 0)))
    return {
        "timeframe": tf.value,
        "where": [str(condition) for condition in wanted.conditions],
        "sort": str(order) if order else None,
        "fields": [str(term) for term in wanted.terms],
        "total": len(fit),
        "of": len(looked),
        "instruments": [
            {
                **{name: value for name, value in looked[place].items() if name not in ("sparkline", "time")},
                "time": figures[place].get("time"),
                "values": {str(term): term.value(figures[place]) for term in wanted.terms},
            }
            for place in fit[: int(asked.get("limit", 100))]
        ],
    }


def _figures(market: Market, row: Row, timeframe: str) -> Row:
    day = {name: row.get(name) for name in ("price", "change_24h", "volume_24h")} | market.figures.get(
        row["symbol"], {}
    )
    bars, values = market.series(row["symbol"], timeframe)
    done = [bar for bar in bars[-3:] if bar["completed"]]
    if not done:
        return day
    bar = done[-1]
    known = {
        name: bar[name] for name in ("open", "high", "low", "close", "volume", "quote_volume", "trade_count", "time")
    }
    return {**known, **values.get(bar["time"], {}), **day}
