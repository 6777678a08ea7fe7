"""alpaca-py's stream, spoken message by message: its handshake and addresses, our own loop.

The library's own loop retries a wrong key and a used-up connection limit for ever, and drops the rest of a frame when
one message of it fails; so only its connecting, its credentials and its socket are used here.
https://docs.alpaca.markets/docs/streaming-market-data lists the error codes.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import msgpack
from alpaca.data.enums import DataFeed
from alpaca.data.live.stock import StockDataStream
from websockets.exceptions import WebSocketException
from websockets.legacy.exceptions import InvalidStatusCode

from app.errors import Forbidden, SourceError, WireError
from app.wire.alpaca import (
    AUTH_FAILED,
    CONNECTION_LIMIT,
    NO_SUBSCRIPTION,
    SYMBOL_LIMIT,
    RawMessage,
    build_request,
    parse_frame,
    parse_message,
)
from app.wire.alpaca_values import Refusal, Success

CONNECT_S = 10.0
CLOSE_S = 2.0
FRAME_BYTES = 1 << 22
WAITING_FRAMES = 4096  # read from the socket and not yet taken; then the socket waits

REMEDIES = {
    AUTH_FAILED: "check ALPACA_API_KEY and ALPACA_SECRET_KEY, and restart",
    SYMBOL_LIMIT: "the subscription allows fewer symbols: remove some from the watchlist, or take a larger plan",
    CONNECTION_LIMIT: "another program uses this key's connection: stop it, or give it a key of its own",
    NO_SUBSCRIPTION: "the key has no subscription for this feed: set ALPACA_FEED=iex, or subscribe, and restart",
}


class Refused(Forbidden):
    """Raised when Alpaca refuses our key, one connection more, our feed or the number of symbols."""

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        super().__init__(text)


def refusal(message: Refusal) -> SourceError:
    """The error for a refusal: Refused, with what to do, where asking again is no use."""
    remedy = REMEDIES.get(message.code)
    if remedy is None:
        return SourceError(f"Alpaca says: {message.message} ({message.code})")
    return Refused(message.code, f"Alpaca refused: {message.message} ({message.code}); {remedy}")


class Socket(StockDataStream):
    """One connection; raises SourceError for whatever fails on it."""

    _ws: Any  # the library's socket, as long as there is one

    def __init__(self, keys: tuple[str, str], url: str, feed: str) -> None:
        parameters = {
            "ping_interval": 10, "ping_timeout": 20, "close_timeout": CLOSE_S, "max_queue": WAITING_FRAMES,
            "max_size": FRAME_BYTES,
        }  # fmt: skip
        super().__init__(*keys, raw_data=True, feed=DataFeed(feed), websocket_params=parameters, url_override=url)

    async def open(self) -> None:
        """Connects and authenticates; raises Refused or SourceError."""
        try:
            await asyncio.wait_for(self._start_ws(), CONNECT_S)
        except InvalidStatusCode as error:
            await self.leave()
            if error.status_code in (401, 403):
                raise refusal(Refusal(AUTH_FAILED, f"status {error.status_code}")) from error
            raise SourceError(f"Alpaca answers with status {error.status_code}") from error
        except (WebSocketException, OSError, ValueError, LookupError, TypeError) as error:
            await self.leave()
            raise SourceError(f"cannot connect to Alpaca: {str(error) or type(error).__name__}") from error
        except BaseException:
            await self.leave()
            raise

    async def _auth(self) -> None:
        """The library's handshake, which keeps the error's code to itself."""
        await self._ws.send(msgpack.packb({"action": "auth", "key": self._api_key, "secret": self._secret_key}))
        answer = parse_message(parse_frame(await self._ws.recv())[0])
        if isinstance(answer, Refusal):
            raise refusal(answer)
        if answer != Success("authenticated"):
            raise WireError("Alpaca did not say that we are authenticated")

    async def frame(self) -> list[RawMessage]:
        """The messages of the next frame; raises SourceError once the connection is lost, WireError for nonsense."""
        try:
            return parse_frame(await self._ws.recv())
        except (WebSocketException, OSError) as error:
            raise SourceError(f"the connection broke: {str(error) or type(error).__name__}") from error

    async def ask(self, action: str, symbols: list[str]) -> None:
        """Sends a `subscribe` or `unsubscribe`; the answer comes as a message."""
        try:
            await self._ws.send(build_request(action, symbols))
        except (WebSocketException, OSError) as error:
            raise SourceError(f"the connection broke: {str(error) or type(error).__name__}") from error

    async def leave(self) -> None:
        """Closes the connection; a server that does not answer is not waited for."""
        with suppress(TimeoutError, WebSocketException, OSError):
            await asyncio.wait_for(self.close(), CLOSE_S)
