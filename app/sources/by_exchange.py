"""Every exchange's source behind the limits all processes share, built when first asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock, local
from typing import TYPE_CHECKING

from app.config import Settings
from app.domain.instruments import Exchange
from app.domain.sessions import Session
from app.sources.limited import Absent, Limited, Limits, Source

if TYPE_CHECKING:
    from app.sources.binance import BinanceHistory
    from app.sources.yahoo import YahooHistory


type Sessions = Callable[[str, int, int], Sequence[Session]]  # calendar, [lo, hi) ms


class _Mine(local):
    """What a thread has built."""

    def __init__(self) -> None:
        self.histories: dict[Exchange, Limited[Source] | Absent] = {}
        self.binance: Limited[BinanceHistory] | None = None


class Sources:
    """The sources of a process; each is imported and built when a thread first asks for it."""

    def __init__(
        self,
        settings: Settings,
        limits: Limits,
        *,
        now_us: Callable[[], int],
        count: Callable[[str], None],
        sessions: Sessions,
    ) -> None:
        """`now_us` is exchange time; `count` takes what went wrong under a reason; `sessions` a calendar's days."""
        self._settings, self._limits, self._now_us, self._count = settings, limits, now_us, count
        self._sessions = sessions
        self._mine = _Mine()
        self._yahoo: YahooHistory | None = None
        self._yahoos_turn = Lock()

    def history(self, exchange: Exchange) -> Limited[Source] | Absent:
        """What answers klines of the exchange in this thread."""
        found = self._mine.histories
        if exchange not in found:
            found[exchange] = self._make(exchange)
        return found[exchange]

    def binance(self) -> Limited[BinanceHistory]:
        """Binance's source, for what else it answers: `ask(lambda source: source.exchange_info(…), INFO_WEIGHT)`."""
        if self._mine.binance is None:
            self._mine.binance = self._make_binance()
        return self._mine.binance

    def _make(self, exchange: Exchange) -> Limited[Source] | Absent:
        match exchange:
            case Exchange.BINANCE:
                return self.binance()
            case Exchange.YAHOO:
                return self._make_yahoo()
            case Exchange.ALPACA:
                if self._settings.alpaca_keys is None:
                    return Absent("Alpaca needs a key: set ALPACA_API_KEY and ALPACA_SECRET_KEY (alpaca.markets)")
                return self._make_alpaca()

    def _make_yahoo(self) -> Limited[Source]:
        """One source for all threads, which take turns: yfinance has one session for all of its parts."""
        from app.sources.yahoo import YahooHistory

        with self._yahoos_turn:
            if self._yahoo is None:
                self._yahoo = YahooHistory(self._settings, now_us=self._now_us)
        return Limited(
            self._yahoo,
            self._limits,
            Exchange.YAHOO.value,
            self._settings.yahoo_requests_per_minute,
            weight=self._yahoo.weight,
            count=self._count,
            turn=self._yahoos_turn,
        )

    def _make_alpaca(self) -> Limited[Source]:
        from app.sources.alpaca import AlpacaHistory

        source = AlpacaHistory(self._settings, sessions=self._sessions, now_us=self._now_us)
        return Limited(
            source,
            self._limits,
            Exchange.ALPACA.value,
            self._settings.alpaca_requests_per_minute,
            weight=source.weight,
            count=self._count,
        )

    def _make_binance(self) -> Limited[BinanceHistory]:
        from app.sources.binance import BinanceHistory

        source = BinanceHistory(self._settings, now_us=self._now_us)
        return Limited(
            source,
            self._limits,
            Exchange.BINANCE.value,
            self._settings.binance_weight_per_minute,
            weight=source.weight,
            used=lambda: source.used_weight,
            count=self._count,
        )
