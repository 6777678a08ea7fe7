"""What the stub says of feeds and market hours, and whom of them it can make look otherwise."""

from __future__ import annotations

from tests.browser.generated import MINUTE, NOW, Row

HOUR = 60 * MINUTE
CONNECTED: Row = {"feed": "connected", "since": None, "at": NOW}
NEVER: Row = {"feed": "down", "since": None, "at": None}
REFUSED: Row = {"feed": "refused", "since": NOW - HOUR, "at": None, "error": "connection limit exceeded (406)"}
NO_KEY: Row = {"feed": "no_key", "since": None, "at": None, "missing": "ALPACA_API_KEY and ALPACA_SECRET_KEY"}
POLLED: Row = {"feed": "connected", "since": None, "at": NOW - 15 * MINUTE}
ASLEEP: Row = {"feed": "closed", "since": None, "at": None}

MIDNIGHT = NOW - NOW % (24 * HOUR)  # Thursday 15 January 2026
ALWAYS: Row = {"calendar": "24/7", "state": "open", "until": None, "opens": None}
XIST_OPEN: Row = {"calendar": "XIST", "state": "open", "until": MIDNIGHT + 15 * HOUR + 10 * MINUTE, "opens": None}
XNYS_CLOSED: Row = {"calendar": "XNYS", "state": "closed", "until": None, "opens": MIDNIGHT + 14 * HOUR + 30 * MINUTE}
XIST_CLOSED: Row = {"calendar": "XIST", "state": "closed", "until": None, "opens": MIDNIGHT + 30 * HOUR + 40 * MINUTE}
XNYS_OPEN: Row = {"calendar": "XNYS", "state": "open", "until": MIDNIGHT + 21 * HOUR, "opens": None}

DELAYS = {"binance": 0, "alpaca": 0, "yahoo": 900}
TITLES = {"binance": "Binance", "alpaca": "Alpaca", "yahoo": "Borsa Istanbul"}
CALENDARS = {"binance": "24/7", "alpaca": "XNYS", "yahoo": "XIST"}


class States:
    """The feeds and the hours of one market of the stub."""

    def __init__(self) -> None:
        self.feeds: dict[str, Row] = {"binance": CONNECTED, "alpaca": NEVER, "yahoo": NEVER}
        self.hours: dict[str, Row] = {"24/7": ALWAYS, "XNYS": XNYS_CLOSED, "XIST": XIST_OPEN}

    def feed(self, exchange: str) -> Row:
        """An exchange's feed as the overview is told it."""
        calendar = CALENDARS[exchange]
        rest = {"delay_s": DELAYS[exchange], "markets": {calendar: self.hours[calendar]}}
        return {"error": None, "missing": None, **self.feeds[exchange], **rest}

    def all(self) -> Row:
        """Every feed, by exchange."""
        return {exchange: self.feed(exchange) for exchange in CALENDARS}

    def status(self, exchange: str) -> Row:
        """An exchange's feed as a chart is told it."""
        state = self.feed(exchange)
        state["market"] = state.pop("markets")[CALENDARS[exchange]]
        return state

    def facts(self, exchange: str) -> Row:
        """What REST answers carry of it."""
        state = self.status(exchange)
        return {name: state[name] for name in ("market", "feed", "delay_s")}
