"""One WebSocket connection to Binance: a run of its own, from SUBSCRIBE to its last batch.

https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams: at most 5 messages a second from us,
1,024 streams a connection, 24 hours.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Literal

import aiohttp
from loguru import logger

from app.domain.timeframes import Timeframe
from app.domain.trades import Trade
from app.errors import SourceError, WireError
from app.wire.binance import (
    Ack,
    Event,
    KlineEvent,
    Other,
    Refusal,
    Shutdown,
    TradeEvent,
    build_subscribe,
    build_unsubscribe,
    kline_stream,
    parse_stream,
    trade_stream,
    unfinished,
)
from streamers.buffer import Buffer, Chunk, Run
from streamers.officials import Officials
from streamers.pace import Pace
from streamers.stats import Stats

STREAMS = 1024  # a connection
KLINES = (Timeframe.M1, Timeframe.M5, Timeframe.M15, Timeframe.H1)
STREAMS_OF_SYMBOL = 1 + len(KLINES)
SYMBOLS = STREAMS // STREAMS_OF_SYMBOL  # a connection
CHUNK = 200 // STREAMS_OF_SYMBOL  # symbols a SUBSCRIBE
PAUSE_S = 0.3  # between two messages of ours: 4 a second, which leaves room for a pong
ANSWER_S = 10.0
EMPTY_S = 1.0  # without trades an empty batch goes out so often: the feed's clock goes on
FRAME_BYTES = 1 << 20


class Connection:
    """Receives into its run until the socket closes; `follow` changes what it listens to."""

    def __init__(
        self,
        socket: aiohttp.ClientWebSocketResponse[Literal[False]],
        run: Run,
        *,
        buffer: Buffer,
        stats: Stats,
        officials: Officials,
        pace: Pace,
        most: int,
    ) -> None:
        self.run = run
        self.ids: dict[str, int] = {}  # wire symbol → instrument id, subscribed
        self.opened_s = self.data_s = time.monotonic()
        self.had_data = False
        self.closed = False
        self.ending = False  # the exchange has announced the end of its server
        self._socket, self._pace, self._most = socket, pace, most
        self._buffer, self._stats, self._officials = buffer, stats, officials
        self._since: dict[int, int] = {}
        self._pending: list[Trade] = []
        self._event_us = 0
        self._kline = b""  # the newest unfinished one, unread
        self._kline_us = 0
        self._put_s = 0.0
        self._seen = self._seen_before = 0
        self._answers: dict[int, asyncio.Future[None]] = {}
        self._requests = 0
        self._spoke_s = 0.0
        self._speaking = asyncio.Lock()
        self._ready = False
        self._listener: asyncio.Task[None] = asyncio.create_task(self._listen())

    @property
    def heard_us(self) -> int:
        """The exchange time up to which everything was received."""
        return self._event_us

    @property
    def lost(self) -> bool:
        """Whether the socket has closed."""
        return self._listener.done()

    async def wait_lost(self) -> None:
        """Returns when the socket has closed."""
        await asyncio.wait({self._listener})

    async def follow(self, wanted: Mapping[str, int]) -> None:
        """Subscribes to what is wanted and not yet followed, and leaves what is not wanted any more.

        Raises SourceError when the exchange refuses or does not answer.
        """
        async with self._speaking:
            fresh = {symbol: id for symbol, id in wanted.items() if self.ids.get(symbol) != id or id not in self._since}
            gone = [symbol for symbol in self.ids if symbol not in wanted]
            for start in range(0, len(gone), CHUNK):
                symbols = gone[start : start + CHUNK]
                await self._ask(symbols, leave=True)
                for symbol in symbols:
                    self._since.pop(self.ids.pop(symbol), None)
            for start in range(0, len(fresh), CHUNK):
                symbols = list(fresh)[start : start + CHUNK]
                self.ids.update((symbol, fresh[symbol]) for symbol in symbols)  # trades may come before the answer
                await self._ask(symbols)
                since_us = await self._pace.now_us()
                self._since.update((fresh[symbol], since_us) for symbol in symbols)
            if gone or fresh or not self._ready:
                self.run.news = tuple(sorted(self._since.items()))
                logger.info("following {} symbols on run {:x}", len(self.ids), self.run.id)
            self._ready = True

    def tick(self) -> None:
        """Hands on what came since the last tick; once a second an empty chunk, so that the clock goes on."""
        now_s = time.monotonic()
        quiet = self._seen == self._seen_before
        self._seen_before = self._seen
        if not self._ready or self.closed:
            return
        if self._pending:
            self._put()
        elif now_s - self._put_s >= EMPTY_S:
            settled_us = self._pace.settled_us()
            if settled_us is not None and not self.lost and (quiet or self._sent_us() >= settled_us):
                self._event_us = max(self._event_us, settled_us)
            self._put()

    def _sent_us(self) -> int:
        """The exchange's time of the newest kline: what the exchange sent before that has come."""
        if self._kline:
            frame, self._kline = self._kline, b""
            event = self._parsed(frame)
            if isinstance(event, KlineEvent | Other):
                self._kline_us = max(self._kline_us, event.event_us)
        return self._kline_us

    async def close(self) -> None:
        """Ends the run: closes the socket, hands on the rest and says that it is over."""
        if not self.closed:
            self.closed = True
            self._listener.cancel()
            await asyncio.wait({self._listener})
            if self._ready or self._pending:
                self._put(over=True)
            await self._socket.close()

    def _put(self, *, over: bool = False) -> None:
        trades, self._pending = self._pending, []
        self._put_s = time.monotonic()
        self._buffer.put(Chunk(self.run, trades, self._event_us, over))

    async def _listen(self) -> None:
        try:
            async for message in self._socket:
                if message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                    self._take(message.data)
        except (aiohttp.ClientError, OSError) as error:
            logger.warning("connection broke on run {:x}: {}", self.run.id, error)
        finally:
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(SourceError("the connection closed before the exchange answered"))

    def _take(self, frame: bytes) -> None:
        self._seen += 1
        self._stats.frames += 1
        if unfinished(frame):
            self._kline = frame
            self._stats.klines += 1
            self._alive()
        elif (event := self._parsed(frame)) is not None:
            self._follow_event(event)

    def _parsed(self, frame: bytes) -> Event | None:
        try:
            return parse_stream(frame, self.ids)
        except WireError as error:
            self._stats.count("malformed_frame")
            logger.warning("malformed frame on run {:x}: {}", self.run.id, error)
            return None

    def _follow_event(self, event: Event) -> None:
        match event:
            case TradeEvent(trade, _):
                # By the trades' own times, which bars are made by: the time of the message may be off.
                self._event_us = max(self._event_us, trade.time_us)
                self._stats.last_event_us = self._event_us
                self._stats.trades += 1
                self._alive()
                self._pending.append(trade)
                if len(self._pending) >= self._most:
                    self._put()
            case KlineEvent(bar, closed, event_us):
                # A kline may overtake the trades of its minute: its time is no claim that these have come.
                self._kline_us = max(self._kline_us, event_us)
                self._alive()
                if closed:
                    self._officials.put(bar)
            case Other(_, _, event_us):
                self._kline_us = max(self._kline_us, event_us)
            case Shutdown():
                logger.info("the exchange announces the end of the server of run {:x}", self.run.id)
                self._stats.count("server_shutdown")
                self.ending = True
            case Ack() | Refusal():
                self._answered(event)

    def _alive(self) -> None:
        self.data_s, self.had_data = time.monotonic(), True

    def _answered(self, event: Ack | Refusal) -> None:
        answer = self._answers.pop(event.id, None) if isinstance(event.id, int) else None
        if isinstance(event, Ack):
            if answer and not answer.done():
                answer.set_result(None)
            return
        self._stats.count("refused_request")
        logger.error("Binance refused a request: {} ({})", event.message, event.code)
        if answer and not answer.done():
            answer.set_exception(SourceError(f"Binance refused a subscription: {event.message} ({event.code})"))

    async def _ask(self, symbols: list[str], *, leave: bool = False) -> None:
        await asyncio.sleep(max(0.0, self._spoke_s + PAUSE_S - time.monotonic()))
        self._spoke_s = time.monotonic()
        self._requests += 1
        answer = self._answers[self._requests] = asyncio.get_running_loop().create_future()
        build = build_unsubscribe if leave else build_subscribe
        try:
            streams = [stream for symbol in symbols for stream in streams_of(symbol)]
            await self._socket.send_str(build(streams, self._requests))
            await asyncio.wait_for(answer, ANSWER_S)
        except TimeoutError as error:
            raise SourceError(f"Binance did not answer within {ANSWER_S:.0f} s") from error
        finally:
            self._answers.pop(self._requests, None)


def streams_of(symbol: str) -> list[str]:
    """The streams of a wire symbol: its trades, and the exchange's own bars that prove ours."""
    return [trade_stream(symbol), *(kline_stream(symbol, timeframe) for timeframe in KLINES)]
