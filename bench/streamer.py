"""What one streamer can take in: `python bench/streamer.py [--rounds N] [--trades N]`.

Subject: frames of trades through the codec into encoded batches of 5,000, as the event loop and its sender do it,
without the socket. Peer: orjson's reading of the same frames. The goal: a seventh of its speed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import orjson

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from app.domain.batching import batches_of
from app.domain.trades import Trade
from app.wire.binance import TradeEvent, build_trade_event, parse_stream
from bench.judged import Goal, in_turn, judge

SUBJECT, PEER = "frames to encoded batches", "orjson.loads"
MOST = 5000


def frames(n: int) -> list[bytes]:
    """Trades of 50 symbols, as the combined stream has them."""
    made = []
    for k in range(n):
        trade = Trade(
            1, 1_700_000_000_000_000 + k * 200, k, k, 6_000_000_000_000 + k % 997 * 10**6, 10**6 + k, k % 2 == 0
        )
        event = build_trade_event(f"S{k % 50}USDT", trade, event_ms=1_700_000_000_000)
        made.append(b'{"stream":"s%dusdt@trade","data":%b}' % (k % 50, event))
    return made


def main() -> int:
    """Measures; 1 where the goal was missed twice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--trades", type=int, default=100_000)
    given = parser.parse_args()
    ids = {f"S{k}USDT": k for k in range(50)}
    sent = frames(given.trades)

    def subject(_turn: int) -> None:
        waiting: list[Trade] = []
        for frame in sent:
            event = parse_stream(frame, ids)
            assert isinstance(event, TradeEvent)
            waiting.append(event.trade)
            if len(waiting) == MOST:
                for batch in batches_of(waiting, MOST):
                    batch.encode()
                waiting = []

    def peer(_turn: int) -> None:
        for frame in sent:
            orjson.loads(frame)

    title = f"{given.trades:,} frames"
    met = judge(
        title, lambda: in_turn({SUBJECT: subject, PEER: peer}, given.rounds), [Goal(SUBJECT, PEER, 1 / 7)],
        rows=given.trades,
    )  # fmt: skip
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
