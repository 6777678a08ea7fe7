"""Keeps the symbols of a shard connected to Alpaca: one connection, as the exchange allows one for a key.

Lost connections come back after a growing, jittered delay. What asking again does not cure (a wrong key, a feed
without subscription) ends it with one error and the state `refused`. A connection limit used up by others, and a key
refused that worked before, are refused too, but tried again now and then. Of more symbols than the subscription allows
those that fit are followed, and the rest is asked for again as often. Outside the sessions the connection stays: the
first print of the day is not missed, and silence is what one expects.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from random import Random

from loguru import logger

from app.domain.instruments import Exchange, Instrument
from app.errors import PlatformError
from app.wire.alpaca import AUTH_FAILED, CONNECTION_LIMIT, SYMBOL_LIMIT
from streamers.alpaca_connection import Connection
from streamers.alpaca_intake import Parts
from streamers.alpaca_socket import Refused, Socket
from streamers.backoff import delays
from streamers.buffer import Run
from streamers.feed import RUN_BITS

LOOK_S = 0.25
SILENCE_MOST_S = 600.0
RELEASE_S = 60.0  # so long a connection of ours that broke may still count as one
LIMIT_FIRST_S = 10.0  # the first wait at a connection limit: a process just restarted may meet its own old connection
NO_KEY = 0  # in place of an error code of Alpaca's
NO_KEYS = (
    "no key for Alpaca: set ALPACA_API_KEY and ALPACA_SECRET_KEY (free at alpaca.markets), and restart; "
    "until then no US stocks are collected"
)


@dataclass(frozen=True, slots=True)
class Limits:
    """How the feed behaves; wall seconds."""

    url: str  # …/v2/iex
    feed: str
    keys: tuple[str, str] | None
    shard: str
    silence_s: float
    refused_s: float = 300.0  # at most, between two attempts after a refusal that may pass


class AlpacaFeed:
    """One connection at a time."""

    def __init__(self, limits: Limits, parts: Parts) -> None:
        self.wanted: dict[str, Instrument] = {}
        self.state, self.state_ms = "reconnecting", _wall_ms()
        self.error = ""  # why it is refused, and what to do
        self.live: Connection | None = None
        self._limits, self._parts, self._stats = limits, parts, parts.stats
        self._changed = asyncio.Event()
        self._random = Random()
        self._delays = delays(self._random)
        self._silence_s = limits.silence_s
        self._held_s = -RELEASE_S  # when we last had a connection
        self._limit_s = LIMIT_FIRST_S  # the next wait at a connection limit
        self._rest_s = math.inf  # when what the limit of symbols left out is asked for again

    def follow(self, wanted: Mapping[str, Instrument]) -> None:
        """Sets the instruments to follow, by wire symbol."""
        if dict(wanted) != self.wanted:
            self.wanted = dict(wanted)
            self._parts.hours.follow(item.calendar for item in wanted.values())
            self._changed.set()

    def tick(self) -> None:
        """Hands on what the connection received."""
        if self.live:
            self.live.tick()

    async def run(self) -> None:
        """Keeps connected until it is cancelled; then the run is told to be over."""
        try:
            while True:
                if not self.wanted:
                    self._state("idle")
                    await self._wait_changed()
                    continue
                try:
                    await self._open()
                    await self._hold()
                except Refused as error:
                    await self._close()
                    await self._stand_back(error)
                except (PlatformError, OSError) as error:
                    await self._close()
                    await self._pause(str(error) or type(error).__name__)
                else:
                    await self._close()
        finally:
            await self._close()

    async def _open(self) -> None:
        if self._limits.keys is None:
            raise Refused(NO_KEY, NO_KEYS)
        since_us = await self._parts.pace.now_us()
        socket = Socket(self._limits.keys, self._limits.url, self._limits.feed)
        await socket.open()
        run = Run(secrets.randbits(RUN_BITS) + 1, Exchange.ALPACA.value, self._limits.shard, since_us)
        self.live = Connection(socket, run, self._parts)
        self._changed.clear()
        await self._refollow(self.live)
        self._stats.runs += 1
        self._stats.delay_s = 0.0
        self._limit_s = LIMIT_FIRST_S
        self._state("connected")
        logger.info("connected to {} on run {:x}", self._limits.url, run.id)

    async def _hold(self) -> None:
        """Returns when nothing is wanted any more; raises what ended the connection."""
        assert self.live
        while self.wanted:
            await self._look(self.live)
            if self.live.lost:
                raise self.live.why_lost()
            if self._changed.is_set() or time.monotonic() > self._rest_s:
                self._changed.clear()
                await self._refollow(self.live)
            self._watch(self.live)

    async def _refollow(self, connection: Connection) -> None:
        try:
            await connection.follow(self.wanted)
            self.error, self._rest_s = "", math.inf
        except Refused as error:
            if error.code != SYMBOL_LIMIT or not connection.followed:
                raise
            if self.error != str(error):
                logger.error("{}", error)
            self.error, self._rest_s = str(error), time.monotonic() + self._limits.refused_s  # what is followed goes on

    async def _look(self, connection: Connection) -> None:
        """Waits a moment, or until something happened."""
        waiting = {asyncio.create_task(connection.wait_lost()), asyncio.create_task(self._changed.wait())}
        try:
            await asyncio.wait(waiting, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()

    def _watch(self, connection: Connection) -> None:
        """Raises OSError for a connection that is silent while the market is open."""
        if not self._parts.hours.open():
            connection.data_s = time.monotonic()
            return
        silent_s = time.monotonic() - connection.data_s
        if silent_s > self._silence_s:
            # Looks less often as long as new connections bring nothing either.
            self._silence_s = min(SILENCE_MOST_S, self._silence_s * 2)
            self._stats.count("stream_silent")
            raise OSError(f"nothing heard for {silent_s:.0f} s")
        if connection.had_data:
            self._silence_s = self._limits.silence_s

    async def _close(self) -> None:
        connection, self.live = self.live, None
        if connection is None:
            return
        if connection.had_data:
            self._delays = delays(self._random)
        self._held_s = time.monotonic()
        await connection.close()

    async def _pause(self, reason: str) -> None:
        if self.state == "connected":
            self._stats.reconnects += 1
            self._state("reconnecting")
        elif (_wall_ms() - self.state_ms) / 1000 > self._limits.silence_s:
            self._state("down", keep=True)
        elif self.state != "down":
            self._state("reconnecting")
        self._stats.delay_s = round(next(self._delays), 2)
        logger.warning("{}, next attempt in {} s", reason, self._stats.delay_s)
        await asyncio.sleep(self._stats.delay_s)

    async def _stand_back(self, error: Refused) -> None:
        """Waits until asking again makes sense, which may be never; the error is told once."""
        if error.code == CONNECTION_LIMIT and time.monotonic() - self._held_s < RELEASE_S:
            await self._pause(f"our last connection still counts: {error}")
            return
        if self.error != str(error):
            logger.log("WARNING" if error.code == NO_KEY else "ERROR", "{}", error)
        self.error = str(error)
        self._state("no_key" if error.code == NO_KEY else "refused")
        self._changed.clear()
        if error.code == SYMBOL_LIMIT:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), self._limits.refused_s)
        elif error.code == CONNECTION_LIMIT:
            wait_s = min(self._limits.refused_s, self._limit_s)
            self._limit_s = 2 * wait_s
            await asyncio.sleep(wait_s)
        elif error.code == AUTH_FAILED and self._stats.runs:
            # The key worked, so the trouble may be the exchange's (maintenance) and pass.
            await asyncio.sleep(self._limits.refused_s)
        else:
            await asyncio.Event().wait()

    async def _wait_changed(self) -> None:
        await self._changed.wait()
        self._changed.clear()

    def _state(self, state: str, *, keep: bool = False) -> None:
        if state != self.state:
            self.state = state
            self.state_ms = self.state_ms if keep else _wall_ms()


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
