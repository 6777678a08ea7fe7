"""How a channel of /ws was asked for, and what its `initial` holds then."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from webapp import frames
from webapp.channels import SeriesChannel
from webapp.live import Extent, Hub

WILD_BARS = 2  # the newest closed bar and the live one: what `initial` has of each channel of a wildcard


@dataclass(frozen=True, slots=True)
class Wish:
    """What a subscription asked for; `since` (ms by channel) counts once, for a refill of at most `refill` bars."""

    names: tuple[str, ...]
    initial: bool
    limit: int | None
    completed: bool
    since: Mapping[str, int]
    refill: int

    def bars(self, channel: str, *, otherwise: int) -> int:
        """How many bars the `initial` of a channel may have, a refill not counted."""
        return (self.limit or otherwise) if self.initial and channel not in self.since else 0

    def loader(self, hub: Hub, channel: SeriesChannel, *, wild: bool) -> Callable[[], bytes]:
        """Reads the channel's `initial`: the first time since when was asked, later as a whole again, or nothing."""
        missed = [self.since[channel.name]] if channel.name in self.since else []
        whole = Extent(self.names, self.limit or (WILD_BARS if wild else None))

        def load() -> bytes:
            if missed:
                limit = min(self.limit or self.refill, self.refill)
                return hub.initial(channel, Extent(self.names, limit, since_ms=missed.pop()))
            if self.initial:
                return hub.initial(channel, whole)
            hub.prepare(channel)
            return b""

        return load

    def skipped(self, channel: SeriesChannel) -> bytes:
        """What is told in place of an `initial` that nobody wants."""
        return b"" if self.initial else frames.answer("skipped", channel=channel.name)
