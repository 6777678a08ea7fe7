"""One connection to Alpaca: a run of its own, from the first subscription to its last batch.

Alpaca does not number its trades without gaps and sends nothing twice: a run counts the prints of each instrument as
they arrive, from 1, and what a lost connection did not bring comes from history.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from loguru import logger

from app.domain.instruments import Instrument
from app.errors import SourceError, WireError
from app.wire.alpaca import SYMBOL_LIMIT, RawMessage, parse_message
from app.wire.alpaca_values import Refusal, Subscription
from streamers.alpaca_intake import Intake, Parts
from streamers.alpaca_socket import Refused, Socket, refusal
from streamers.buffer import Chunk, Run

CHUNK = 400  # symbols a request
NAMED = 10  # symbols an error names
ANSWER_S = 10.0
EMPTY_S = 1.0  # without trades an empty batch goes out so often: the feed's clock goes on


class Connection:
    """Receives into its run until the socket closes; `follow` changes what it listens to."""

    def __init__(self, socket: Socket, run: Run, parts: Parts) -> None:
        self.run = run
        self.followed: dict[str, Instrument] = {}  # by wire symbol
        self.opened_s = self.data_s = time.monotonic()
        self.had_data = False
        self.closed = False
        self.error: SourceError | None = None  # what ended it
        self._socket, self._parts, self._stats = socket, parts, parts.stats
        self._since: dict[int, int] = {}
        self._intake = Intake(parts)
        self._put_s = 0.0
        self._seen = self._seen_before = 0
        self._answer: asyncio.Future[Subscription] | None = None
        self._speaking = asyncio.Lock()
        self._ready = False
        self._listener: asyncio.Task[None] = asyncio.create_task(self._listen())

    @property
    def heard_us(self) -> int:
        """The exchange time up to which everything was received."""
        return self._intake.event_us

    @property
    def lost(self) -> bool:
        """Whether the socket has closed."""
        return self._listener.done()

    async def wait_lost(self) -> None:
        """Returns when the socket has closed."""
        await asyncio.wait({self._listener})

    def why_lost(self) -> BaseException:
        """What ended a connection that is lost: a SourceError, or a defect of ours."""
        defect = None if self._listener.cancelled() else self._listener.exception()
        return defect or self.error or SourceError("the connection was closed")

    async def follow(self, wanted: Mapping[str, Instrument]) -> None:
        """Subscribes to what is wanted and not yet followed, and leaves what is not wanted any more.

        What stays goes on without a break, and at the limit of symbols the oldest of the watchlist come in. Raises
        Refused or SourceError; what was left or added before that is told.
        """
        async with self._speaking:
            before = dict(self._since)
            try:
                gone = [symbol for symbol, item in self.followed.items() if wanted.get(symbol) != item]
                for start in range(0, len(gone), CHUNK):
                    await self._drop(gone[start : start + CHUNK])
                fresh = sorted(wanted.keys() - self.followed.keys(), key=lambda symbol: wanted[symbol].id)
                for start in range(0, len(fresh), CHUNK):
                    await self._add_fitting({symbol: wanted[symbol] for symbol in fresh[start : start + CHUNK]})
            except Refused as error:
                if error.code != SYMBOL_LIMIT:
                    raise
                self._ready = self._ready or bool(self.followed)
                left = [symbol for symbol in fresh if symbol not in self.followed]
                more = f" and {len(left) - NAMED} more" if len(left) > NAMED else ""
                raise Refused(error.code, f"{error}; not followed: {', '.join(left[:NAMED])}{more}") from error
            finally:
                if self._since != before or not self._ready:
                    self.run.news = tuple(sorted(self._since.items()))
                    logger.info("following {} symbols on run {:x}", len(self.followed), self.run.id)
            self._ready = True

    def tick(self) -> None:
        """Hands on what came since the last tick; once a second an empty chunk, so that the clock goes on."""
        quiet = self._seen == self._seen_before
        self._seen_before = self._seen
        if not self._ready or self.closed:
            return
        if self._intake.trades:
            self._put()
        elif time.monotonic() - self._put_s >= EMPTY_S:
            settled_us = self._parts.pace.settled_us()
            if quiet and settled_us is not None and not self.lost:
                self._intake.event_us = max(self._intake.event_us, settled_us)
            self._put()

    async def close(self) -> None:
        """Ends the run: closes the socket, hands on the rest and says that it is over."""
        if not self.closed:
            self.closed = True
            self._listener.cancel()
            await asyncio.wait({self._listener})
            if self._ready or self._intake.trades:
                self._put(over=True)
            await self._socket.leave()

    async def _drop(self, symbols: list[str]) -> None:
        await self._ask("unsubscribe", symbols)
        for symbol in symbols:
            self._since.pop(self.followed.pop(symbol).id, None)

    async def _add_fitting(self, fresh: Mapping[str, Instrument]) -> None:
        """Subscribes to all of them, or to the first ones that the limit of symbols allows, and then raises Refused.

        A request over the limit changes nothing at Alpaca, and nobody tells the limit: halving finds it.
        """
        symbols = list(fresh)
        fits, upto, too_many = 0, len(symbols), len(symbols) + 1
        refused: Refused | None = None
        while fits + 1 < too_many:
            try:
                await self._add({symbol: fresh[symbol] for symbol in symbols[fits:upto]})
                fits = upto
            except Refused as error:
                if error.code != SYMBOL_LIMIT:
                    raise
                refused, too_many = error, upto
            upto = (fits + too_many) // 2
        if refused:
            raise refused

    async def _add(self, fresh: Mapping[str, Instrument]) -> None:
        self.followed.update(fresh)  # trades may come before the answer
        try:
            answer = await self._ask("subscribe", list(fresh))
        except SourceError:
            for symbol in fresh:
                del self.followed[symbol]
            raise
        since_us = await self._parts.pace.now_us()
        heard = set(answer.channels["trades"])
        for symbol, item in fresh.items():
            if symbol in heard:
                self._since[item.id] = since_us
            else:
                logger.error("Alpaca does not send {}", symbol)
                self._stats.count("not_subscribed")

    async def _ask(self, action: str, symbols: list[str]) -> Subscription:
        answer = self._answer = asyncio.get_running_loop().create_future()
        try:
            await self._socket.ask(action, symbols)
            return await asyncio.wait_for(answer, ANSWER_S)
        except TimeoutError as error:
            raise SourceError(f"Alpaca did not answer within {ANSWER_S:.0f} s") from error
        finally:
            self._answer = None

    def _put(self, *, over: bool = False) -> None:
        trades, self._intake.trades = self._intake.trades, []
        self._put_s = time.monotonic()
        self._parts.buffer.put(Chunk(self.run, trades, self._intake.event_us, over))

    async def _listen(self) -> None:
        try:
            while True:
                messages = await self._socket.frame()
                self._stats.frames += 1
                for raw in messages:
                    self._take(raw)
        except WireError as error:
            # Prints may be lost in the frame, and no number would tell: the run ends here, history has the rest.
            self._stats.count("malformed_frame")
            self.error = SourceError(str(error))
        except SourceError as error:
            self.error = error
        finally:
            if self._answer and not self._answer.done():
                self._answer.set_exception(self.error or SourceError("the connection was closed"))

    def _take(self, raw: RawMessage) -> None:
        self._seen += 1
        try:
            message = parse_message(raw)
        except WireError as error:
            self._stats.count("malformed_message")
            logger.warning("malformed message on run {:x}: {}", self.run.id, error)
            return
        if isinstance(message, Subscription):
            if self._answer and not self._answer.done():
                self._answer.set_result(message)
        elif isinstance(message, Refusal):
            self._refused(message)
        else:
            instrument = self.followed.get(getattr(message, "symbol", ""))
            if instrument is not None:
                self.data_s, self.had_data = time.monotonic(), True
                self._intake.take(message, instrument)
                if len(self._intake.trades) >= self._parts.most:
                    self._put()

    def _refused(self, message: Refusal) -> None:
        error = refusal(message)
        self._stats.count("refused_request")
        if self._answer and not self._answer.done():
            self._answer.set_exception(error)
        else:
            raise error
