"""A UDF client written to TradingView's documentation: it asks as the charting library's own adapter does."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

Get = Callable[[str], tuple[int, str]]
"""Gets an address; returns its status and text."""


class UdfError(Exception):
    """Raised for an answer whose `s` is error; its text is `errmsg`."""


@dataclass(frozen=True)
class Page:
    """One answer of /history: bars as (time s, o, h, l, c, v), oldest first, and where older ones are."""

    bars: list[tuple[int, float, float, float, float, float]]
    no_data: bool
    next_time: int | None


class UdfClient:
    """Speaks to one data feed."""

    def __init__(self, get: Get, base: str = "/udf") -> None:
        self._get, self._base = get, base
        self.config = self._json("config")
        # Either of the two is needed for a symbol to be found at all.
        assert self.config["supports_search"] or self.config["supports_group_request"]

    def time(self) -> int:
        """The server's time in seconds; the answer is a bare number."""
        assert self.config["supports_time"]
        status, text = self._get(f"{self._base}/time")
        assert status == 200
        return int(text)

    def resolve(self, name: str) -> dict[str, Any]:
        """The symbol's LibrarySymbolInfo; what the library refuses is refused."""
        info: dict[str, Any] = self._json("symbols", symbol=name)
        for field in ("name", "description", "type", "session", "timezone", "exchange", "minmov", "pricescale"):
            assert info[field] or info[field] == 0, field
        assert info["pricescale"] >= 1 and info["minmov"] >= 1
        assert set(info["supported_resolutions"]) <= set(self.config["supported_resolutions"])
        assert set(info["intraday_multipliers"]) <= set(info["supported_resolutions"])
        assert info["has_intraday"] == any(name.isdigit() for name in info["supported_resolutions"])
        return info

    def search(self, text: str, *, exchange: str = "", kind: str = "", limit: int = 30) -> list[dict[str, str]]:
        """What the search dialog shows."""
        found: list[dict[str, str]] = self._json("search", query=text, type=kind, exchange=exchange, limit=limit)
        assert len(found) <= limit
        return found

    def group(self, name: str = "") -> list[dict[str, Any]]:
        """The symbols of a group; a column may be one value that stands for all rows."""
        table: dict[str, Any] = self._json("symbol_info", group=name)
        rows = len(table["symbol"])
        columns = {key: value if isinstance(value, list) else [value] * rows for key, value in table.items()}
        assert {len(value) for value in columns.values()} == {rows}
        return [{key: value[row] for key, value in columns.items()} for row in range(rows)]

    def quotes(self, *names: str) -> dict[str, dict[str, Any]]:
        """The values of each symbol, by the name it was asked by."""
        told = self._json("quotes", symbols=",".join(names))
        assert told["s"] == "ok"
        return {each["n"]: each for each in told["d"]}

    def history(
        self, info: dict[str, Any], resolution: str, *, start_s: int, end_s: int, count: int | None = None
    ) -> Page:
        """One page: [start_s, end_s) or, where `count` is given, so many bars before `end_s`."""
        asked = {"symbol": info.get("ticker") or info["name"], "resolution": resolution, "from": start_s, "to": end_s}
        told = self._json("history", **asked, **({} if count is None else {"countback": count}))
        if told["s"] == "no_data":
            return Page([], True, told.get("nextTime"))
        assert told["s"] == "ok", told
        bars = list(zip(*(told[column] for column in "tohlcv"), strict=True))
        times = [bar[0] for bar in bars]
        assert times == sorted(set(times)), "the library wants bars in order, each once"
        assert all(time < end_s for time in times), "`to` is not in the range"
        return Page(bars, False, None)

    def all_by_count(self, info: dict[str, Any], resolution: str, *, end_s: int, count: int) -> list[Any]:
        """Every bar, paged backwards by countback until there is no data, as a user who scrolls to the left."""
        bars: list[Any] = []
        while True:
            # `from` is a guess of the library's, and often after the bars that countback wants.
            page = self.history(info, resolution, start_s=end_s - 60 * count, end_s=end_s, count=count)
            if page.no_data and page.next_time is None:
                return bars
            assert page.bars, "countback takes no gap"
            bars = page.bars + bars
            end_s = page.bars[0][0]

    def all_by_range(self, info: dict[str, Any], resolution: str, *, end_s: int, span_s: int) -> tuple[list[Any], int]:
        """Every bar, paged backwards by ranges, and how many gaps `nextTime` led across."""
        bars: list[Any] = []
        jumps = 0
        while True:
            page = self.history(info, resolution, start_s=end_s - span_s, end_s=end_s)
            if page.no_data:
                if page.next_time is None:
                    return bars, jumps
                assert page.next_time < end_s - span_s, "the next bar is before what was asked"
                jumps, end_s = jumps + 1, page.next_time + 1
            else:
                bars = page.bars + bars
                end_s -= span_s

    def _json(self, route: str, **query: object) -> Any:
        status, text = self._get(f"{self._base}/{route}?{urlencode(query)}")
        body = json.loads(text)
        if isinstance(body, dict) and body.get("s") == "error":
            raise UdfError(body["errmsg"])
        assert status == 200, (status, text)
        return body
