"""What an exchange lists, asked in a process of its own.

The exchanges' client libraries bring pandas and sockets that do not wait in green: here they would hold up every client
for a second or two, and stay in memory for ever. Symbols are added by hand, a process each is cheap enough.
"""

from __future__ import annotations

import subprocess
import sys
import threading

import orjson

from app.config import ROOT
from app.domain.instruments import Exchange
from app.domain.listing import Listing
from app.errors import BadInput, Forbidden, PlatformError, SourceAway, UnknownInstrument

AT_ONCE = 2  # processes beside each other
ROOM_S = 5.0  # how long one waits for its turn
TIMEOUT_S = 30.0
_REFUSALS: dict[str, type[PlatformError]] = {
    kind.__name__: kind for kind in (BadInput, UnknownInstrument, Forbidden, SourceAway)
}
_turns = threading.BoundedSemaphore(AT_ONCE)


def look(exchange: Exchange, symbol: str) -> Listing:
    """As app.sources.listings.Listings.look: the symbol as its exchange lists it, or what that raises."""
    if not _turns.acquire(timeout=ROOM_S):
        raise SourceAway("other symbols are being looked up; try again in a moment")
    try:
        said = subprocess.run(
            [sys.executable, "-m", "app", "instruments", "look", "-e", exchange.value, "--", symbol],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise SourceAway(f"{exchange.value} did not answer within {TIMEOUT_S:.0f} s; try again later") from None
    finally:
        _turns.release()
    return parse(said.stdout, exchange=exchange, symbol=symbol)


def parse(text: bytes, *, exchange: Exchange, symbol: str) -> Listing:
    """The listing in the last line of what `instruments look` said; raises what it was refused with."""
    try:
        found = orjson.loads(text.strip().rpartition(b"\n")[2])
        if "refused" in found:
            raise _REFUSALS.get(found["refused"], SourceAway)(found["message"])
        return Listing(exchange, symbol, found["currency"], found["calendar"], found["price_decimals"], found["status"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise SourceAway(f"{exchange.value} could not be asked; the log has the details") from None
