"""One socket of /ws: the channels it has, by name and by wildcard, and the answers to what it says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from app.domain.instruments import Instrument
from app.domain.timeframes import Timeframe
from app.errors import BadInput
from webapp import frames
from webapp.channels import OVERVIEW, Channel, SeriesChannel, channel_name
from webapp.clients import Client, Subscription
from webapp.errors import describe
from webapp.live import Hub
from webapp.messages import (
    BadMessage,
    Directory,
    ListChannels,
    Message,
    Ping,
    Subscribe,
    Unsubscribe,
    Wanted,
    parse_name,
    read,
)
from webapp.schemas import MAX_BARS
from webapp.wishes import WILD_BARS, Wish


class TooMuch(BadInput):
    """Raised when a socket asks for more channels, or more bars at once, than it may have."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Limits:
    """What one socket may have."""

    channels: int
    initial_bars: int
    chart_bars: int


type Series = tuple[Instrument, Timeframe]


class Session:
    """Answers a client's messages; `follow` keeps its wildcards to the watchlist."""

    def __init__(
        self, hub: Hub, client: Client, *, read_instruments: Callable[[], list[Instrument]], limits: Limits
    ) -> None:
        self._hub, self._client, self._limits = hub, client, limits
        self._read_instruments = read_instruments
        self._joined: dict[str, tuple[Channel, Subscription]] = {}
        self._named: set[str] = set()
        self._wild: dict[Wanted, Wish] = {}
        self._lock = threading.RLock()
        self._over = False
        self._news: Sequence[Instrument] | None = None  # the watchlist that is not followed yet

    def hear(self, text: str | bytes) -> None:
        """Carry out a message, or say why not; nothing of a message that is refused is carried out."""
        message: Message | None = None
        try:
            message = read(text)
            with self._lock:
                self._carry_out(message)
        except Exception as error:  # noqa: BLE001  # told to this client alone; the connection lives
            code, said = _told(error)
            asked = error.id if isinstance(error, BadMessage) else None
            fields = {"id": asked if message is None else message.id, "data": {"code": code, "message": said}}
            self._client.say(frames.answer("error", **fields))
        self._catch_up()

    def follow(self, active: Sequence[Instrument]) -> None:
        """The watchlist is another one: what a wildcard names joins, what it names no more leaves.

        Never waits: while a message is carried out, the news waits for its end.
        """
        self._news = active
        self._catch_up()

    def end(self) -> None:
        """The connection is over: leave every channel."""
        with self._lock:
            self._over = True
            self._hub.members.unfollow(self.follow)
            self._leave(list(self._joined))

    def _catch_up(self) -> None:
        while self._news is not None and self._lock.acquire(blocking=False):
            try:
                active, self._news = self._news, None
                if active is not None and not self._over:
                    self._follow(active)
            finally:
                self._lock.release()

    def _follow(self, active: Sequence[Instrument]) -> None:
        for wild, wish in self._wild.items():
            found = _expand(wild, active)
            ended = [name for name in self._of(wild) if name not in found and name not in self._named]
            self._leave(ended)
            if ended:
                self._client.say(frames.answer("unsubscribed", by=wild.name, channels=ended))
            self._join_later(wild, wish, {name: it for name, it in found.items() if name not in self._joined})

    def _carry_out(self, message: Message) -> None:
        match message:
            case Ping():
                self._client.say(frames.answer("pong", id=message.id))
            case ListChannels():
                wild = [each.name for each in self._wild]
                self._client.say(frames.answer("list", id=message.id, channels=list(self._joined), wildcards=wild))
            case Subscribe():
                self._subscribe(message)
            case Unsubscribe():
                self._unsubscribe(message)

    def _subscribe(self, message: Subscribe) -> None:
        instruments = self._read_instruments()
        directory = Directory(instruments)
        since = {directory.name(name): time_ms for name, time_ms in message.since.items()}
        refill = max(1, min(MAX_BARS, self._limits.initial_bars // max(1, len(since))))
        wish = Wish(message.indicators, message.initial, message.limit, message.completed, since, refill)
        wild, named = _sorted(message.channels, directory)
        by_wild: dict[str, Series] = {}
        for each in wild:
            by_wild |= _expand(each, [item for item in instruments if item.active])
        self._check(wish, named=named, by_wild=by_wild)
        told = list(dict.fromkeys([*named, *by_wild]))
        self._client.say(frames.answer("subscribed", id=message.id, channels=told, wildcards=[w.name for w in wild]))
        later = replace(wish, since={})
        self._wild |= dict.fromkeys(wild, later)
        self._named |= named.keys()
        if wild:
            self._hub.members.follow(self.follow)
        for name in told:
            self._join(name, named.get(name) or by_wild.get(name), wish=wish, wild=name not in named)

    def _check(self, wish: Wish, *, named: Iterable[str], by_wild: Iterable[str]) -> None:
        new, most = {*named, *by_wild}, self._limits.channels
        if len(self._joined.keys() | new) > most:
            text = f"a socket may have {most} channels (WS_CHANNELS); it has {len(self._joined)}, asked were {len(new)}"
            raise TooMuch("too_many_channels", f"channels: {text}; use another socket for more")
        bars = sum(wish.bars(name, otherwise=self._limits.chart_bars) for name in named if name != OVERVIEW)
        bars += sum(wish.bars(name, otherwise=WILD_BARS) for name in by_wild)
        if bars > self._limits.initial_bars:
            text = f"one message may ask for {self._limits.initial_bars} bars (WS_INITIAL_BARS), this is {bars}"
            raise TooMuch("too_many_bars", f'limit: {text}; lower "limit", or say "initial": false')

    def _unsubscribe(self, message: Unsubscribe) -> None:
        directory = Directory(self._read_instruments())
        wild, named = _sorted(message.channels, directory, strict=False)
        unknown = [name for name in named if name not in self._named]
        unknown += [each.name for each in wild if each not in self._wild]
        if unknown:
            raise BadMessage(f"channels: not subscribed by that name: {', '.join(unknown)[:300]}", id=message.id)
        ended = {name for each in wild for name in self._of(each)} | named.keys()
        for each in wild:
            del self._wild[each]
        self._named -= named.keys()
        kept = self._named | {name for each in self._wild for name in self._of(each)}
        left = [name for name in self._joined if name in ended and name not in kept]
        self._leave(left)
        self._client.say(frames.answer("unsubscribed", id=message.id, channels=left, wildcards=[w.name for w in wild]))

    def _join_later(self, wild: Wanted, wish: Wish, new: Mapping[str, Series]) -> None:
        room = self._limits.channels - len(self._joined)
        joining = dict(list(new.items())[:room])
        if joining:
            self._client.say(frames.answer("subscribed", by=wild.name, channels=list(joining)))
        for name, series in joining.items():
            self._join(name, series, wish=wish, wild=True)
        if len(joining) < len(new):
            text = f"{len(new) - len(joining)} new channels did not fit: a socket may have {self._limits.channels}"
            self._client.say(frames.error("too_many_channels", text, channel=wild.name))

    def _join(self, name: str, series: Series | None, *, wish: Wish, wild: bool = False) -> None:
        self._leave([name] if name in self._joined else [])
        if series is None:
            subscription = self._client.subscribe(self._hub.initial_overview)
            self._hub.join(self._hub.overview, subscription)
            self._joined[name] = (self._hub.overview, subscription)
            return
        self._joined[name] = self._hub.join_series(
            *series,
            lambda channel: self._client.subscribe(
                wish.loader(self._hub, channel, wild=wild),
                completed_only=wish.completed,
                skipped=wish.skipped(channel),
                refill=name in wish.since,
            ),
        )

    def _leave(self, names: Iterable[str]) -> None:
        for name in names:
            self._hub.leave(*self._joined.pop(name))

    def _of(self, wild: Wanted) -> list[str]:
        """The channels there are now that the wildcard stands for."""
        found = []
        for name, (channel, _) in self._joined.items():
            if isinstance(channel, SeriesChannel) and channel.instrument.exchange is wild.exchange:
                found += [name] if channel.tf is wild.timeframe else []
        return found


def _sorted(
    names: Iterable[str], directory: Directory, *, strict: bool = True
) -> tuple[list[Wanted], dict[str, Series | None]]:
    """The wildcards among these names, and the series of the others by the name that is told; None: the overview."""
    wild: dict[Wanted, None] = {}
    named: dict[str, Series | None] = {}
    for text in names:
        wanted = parse_name(text)
        if wanted is None:
            named[OVERVIEW] = None
        elif wanted.symbol is None:
            wild[wanted] = None
        elif (found := directory.find(wanted)) is not None:
            named[channel_name(found, wanted.timeframe)] = (found, wanted.timeframe)
        elif strict:
            raise TooMuch("unknown_symbol", f"channels: unknown symbol in {text!r}; GET /api/symbols has those known")
        else:
            named[wanted.name] = None
    return list(wild), named


def _expand(wild: Wanted, active: Iterable[Instrument]) -> dict[str, Series]:
    """The series a wildcard stands for, by name."""
    tf = wild.timeframe
    return {channel_name(item, tf): (item, tf) for item in active if item.exchange is wild.exchange}


def _told(error: Exception) -> tuple[str, str]:
    """(code, message) of what went wrong with a message."""
    match error:
        case BadMessage():
            return "bad_message", str(error)
        case TooMuch():
            return error.code, str(error)
        case _:
            _, code, text = describe(error)
            return code, text
