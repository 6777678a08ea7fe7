"""Keeps one group of symbols connected: reconnects with backoff, and replaces a connection before it ends.

A connection near the exchange's 24-hour limit, one whose server says that it ends, or a silent one stays until the
next one is subscribed and a moment longer, since its last frames may be on their way: both deliver into runs of their
own, and the ledger settles what came twice.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from random import Random

import aiohttp
from loguru import logger

from app.errors import PlatformError, SourceError
from streamers.backoff import delays
from streamers.buffer import Buffer, Run
from streamers.connection import FRAME_BYTES, Connection
from streamers.officials import Officials
from streamers.pace import Pace
from streamers.stats import Stats

RUN_BITS = 62
CONNECT_S = 10.0
CLOSE_S = 2.0
LOOK_S = 0.25
OVERLAP_S = 1.0  # wall time for which both connections are heard
SILENCE_MOST_S = 600.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How a feed behaves; wall seconds."""

    url: str  # …/stream
    exchange: str
    shard: str
    silence_s: float
    max_age_s: float
    most: int  # trades a batch


class Feed:
    """One connection at a time, two while one replaces the other."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        limits: Limits,
        *,
        buffer: Buffer,
        officials: Officials,
        stats: Stats,
        pace: Pace,
    ) -> None:
        self.wanted: dict[str, int] = {}
        self.state, self.state_ms = "reconnecting", _wall_ms()
        self.live: set[Connection] = set()
        self._session, self._limits = session, limits
        self._buffer, self._officials, self._stats, self._pace = buffer, officials, stats, pace
        self._changed = asyncio.Event()
        self._random = Random()
        self._delays = delays(self._random)
        self._silence_s = limits.silence_s

    def follow(self, wanted: Mapping[str, int]) -> None:
        """Sets the wire symbols to follow, with their instrument ids."""
        if dict(wanted) != self.wanted:
            self.wanted = dict(wanted)
            self._changed.set()

    def tick(self) -> None:
        """Hands on what the connections received."""
        for connection in tuple(self.live):
            connection.tick()

    async def run(self) -> None:
        """Keeps connected until it is cancelled; then every run is told to be over."""
        try:
            while True:
                if not self.wanted:
                    self._state("idle")
                    await self._wait_changed()
                    continue
                connection = await self._open_at_last()
                connection = await self._hold(connection)
                self._state("reconnecting")
                if connection.had_data:
                    self._delays = delays(self._random)
                await connection.close()
                self.live.discard(connection)
                if self.wanted:
                    self._stats.reconnects += 1
                    await self._pause("connection lost")
        finally:
            await asyncio.gather(*(connection.close() for connection in self.live))
            self.live.clear()

    async def _wait_changed(self) -> None:
        await self._changed.wait()
        self._changed.clear()

    async def _open_at_last(self) -> Connection:
        while True:
            try:
                return await self._open()
            except (PlatformError, aiohttp.ClientError, OSError) as error:
                if (_wall_ms() - self.state_ms) / 1000 > self._limits.silence_s:
                    self._state("down", keep=True)
                await self._pause(f"cannot connect: {_said(error)}")

    async def _pause(self, reason: str) -> None:
        self._stats.delay_s = round(next(self._delays), 2)
        logger.warning("{}, next attempt in {} s", reason, self._stats.delay_s)
        await asyncio.sleep(self._stats.delay_s)

    async def _open(self) -> Connection:
        since_us = await self._pace.now_us()
        timeout = aiohttp.ClientWSTimeout(ws_close=CLOSE_S)
        connecting = self._session.ws_connect(
            self._limits.url, timeout=timeout, max_msg_size=FRAME_BYTES, decode_text=False
        )
        socket = await asyncio.wait_for(connecting, CONNECT_S)
        run = Run(secrets.randbits(RUN_BITS) + 1, self._limits.exchange, self._limits.shard, since_us)
        connection = Connection(
            socket,
            run,
            buffer=self._buffer,
            stats=self._stats,
            officials=self._officials,
            pace=self._pace,
            most=self._limits.most,
        )
        self._changed.clear()
        try:
            await connection.follow(self.wanted)
        except BaseException:
            await connection.close()
            raise
        self.live.add(connection)
        self._stats.runs += 1
        self._stats.delay_s = 0.0
        self._state("connected")
        logger.info("connected to {} on run {:x}", self._limits.url, run.id)
        return connection

    async def _hold(self, connection: Connection) -> Connection:
        """Returns the connection that was lost; it may be a successor of the one given."""
        retry_s = 0.0
        while not connection.lost and self.wanted:
            await self._look(connection)
            if self._changed.is_set():
                self._changed.clear()
                await self._refollow(connection)
            reason = self._why_replace(connection)
            if reason and time.monotonic() >= retry_s and not connection.lost:
                try:
                    successor = await self._open()
                except (PlatformError, aiohttp.ClientError, OSError) as error:
                    retry_s = time.monotonic() + next(self._delays)
                    logger.warning("{}, but cannot connect anew: {}", reason, _said(error))
                    self._changed.set()  # the list may have changed meanwhile
                    continue
                if connection.ending:  # the next one may be at the same server
                    retry_s = time.monotonic() + next(self._delays)
                logger.info("{}: run {:x} follows {:x}", reason, successor.run.id, connection.run.id)
                self._replaced(connection)
                await self._retire(connection)
                connection = successor
        return connection

    async def _retire(self, connection: Connection) -> None:
        """Ends a connection that has a successor, once what it was sent before that has come."""
        with suppress(TimeoutError):
            await asyncio.wait_for(connection.wait_lost(), OVERLAP_S)
        await connection.close()
        self.live.discard(connection)

    async def _look(self, connection: Connection) -> None:
        """Waits a moment, or until something happened."""
        waiting = {asyncio.create_task(connection.wait_lost()), asyncio.create_task(self._changed.wait())}
        try:
            await asyncio.wait(waiting, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()

    async def _refollow(self, connection: Connection) -> None:
        try:
            await connection.follow(self.wanted)
        except (SourceError, aiohttp.ClientError, OSError) as error:
            logger.error("the subscription could not be changed: {}", _said(error))
            self._stats.count("subscription_failed")
            await asyncio.sleep(next(self._delays))
            self._changed.set()

    def _why_replace(self, connection: Connection) -> str:
        now_s = time.monotonic()
        if connection.ending:
            return "the exchange ends the server"
        if now_s - connection.opened_s > self._limits.max_age_s:
            return "the connection is old"
        silent_s = now_s - connection.data_s
        if silent_s > self._silence_s:
            return f"no word for {silent_s:.0f} s"
        if connection.had_data:
            self._silence_s = self._limits.silence_s
        return ""

    def _replaced(self, connection: Connection) -> None:
        """Looks less often as long as new connections bring nothing either: the market may really be quiet."""
        if time.monotonic() - connection.data_s > self._silence_s:
            self._silence_s = min(SILENCE_MOST_S, self._silence_s * 2)
            self._stats.count("stream_silent")

    def _state(self, state: str, *, keep: bool = False) -> None:
        if state != self.state:
            self.state = state
            self.state_ms = self.state_ms if keep else _wall_ms()


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
