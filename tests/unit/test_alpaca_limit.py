"""The limit of symbols: whatever it is, so many are followed, the oldest first, after few requests."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from app.wire.alpaca import SYMBOL_LIMIT
from app.wire.alpaca_values import Subscription
from streamers.alpaca_connection import Connection
from streamers.alpaca_socket import Refused
from streamers.buffer import Run
from streamers.stats import Stats
from tests.alpaca_door import stock


class Limited(Connection):
    """Alpaca as it answers subscriptions, with a limit."""

    def __init__(self, most: int) -> None:
        async def now_us() -> int:
            return 0

        async def silence() -> None:
            await asyncio.Event().wait()

        parts: Any = SimpleNamespace(stats=Stats(), pace=SimpleNamespace(now_us=now_us))
        socket: Any = SimpleNamespace(frame=silence)
        super().__init__(socket, Run(1, "alpaca", "0/1", 0), parts)
        self.most, self.held, self.requests = most, set[str](), 0

    async def _ask(self, action: str, symbols: list[str]) -> Subscription:
        self.requests += 1
        if action == "unsubscribe":
            self.held -= set(symbols)
        elif len(self.held | set(symbols)) > self.most:
            raise Refused(SYMBOL_LIMIT, "symbol limit exceeded (405)")
        else:
            self.held |= set(symbols)
        return Subscription({"trades": tuple(sorted(self.held))})


@pytest.mark.parametrize("most", [0, 1, 30, 200, 399, 400, 512])
async def test_halving_finds_the_limit(most: int) -> None:
    names = [f"S{number}" for number in range(900)]
    wanted = {name: stock(1 + number, name) for number, name in enumerate(names)}
    connection = Limited(most)
    with pytest.raises(Refused, match=f"not followed: S{most}, S{most + 1}, .* and {900 - most - 10} more$"):
        await connection.follow(dict(reversed(wanted.items())))
    assert connection.held == set(names[:most]) == connection.followed.keys()
    assert connection.requests <= 11
    await connection.follow({name: wanted[name] for name in names[:most]})
    connection._listener.cancel()


async def test_a_symbol_removed_makes_room_for_the_next() -> None:
    wanted = {name: stock(number, name) for number, name in enumerate("ABCDE", 1)}
    connection = Limited(3)
    with pytest.raises(Refused, match=r"not followed: D, E$"):
        await connection.follow(wanted)
    del wanted["B"]
    with pytest.raises(Refused, match=r"not followed: E$"):
        await connection.follow(wanted)
    assert connection.followed.keys() == {"A", "C", "D"}
    connection._listener.cancel()
