"""What a client's queue does when its socket is slow; the socket is the seam."""

from __future__ import annotations

import re
import threading
from typing import Any

from app.domain.instruments import Exchange, Instrument
from webapp.channels import Channel
from webapp.clients import TRY_AGAIN_LATER, Client, Subscription
from webapp.members import Members
from webapp.session import Limits, Session
from webapp.whole_socket import NOTHING, PART

BTC, ETH = (
    Instrument(number, Exchange.BINANCE, f"{coin}/USDT", f"{coin}USDT", "crypto", "USDT", "24/7", True, 2)
    for number, coin in enumerate(("BTC", "ETH"), 1)
)


class Gate:
    """A raw socket that takes nothing while it is shut."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.taken: list[bytes] = []
        self.over = threading.Event()
        self.most = 1 << 20  # bytes taken at once without waiting

    def sendall(self, data: bytes) -> None:
        self.open.wait(5)
        self.taken.append(data)

    def send(self, data: bytes, _flags: int) -> int:
        if not self.open.is_set():
            raise BlockingIOError
        self.taken.append(data[: self.most])
        return len(data[: self.most])

    def shutdown(self, _how: int) -> None:
        self.over.set()


class FakeSocket:
    """What simple-websocket is to a client."""

    def __init__(self) -> None:
        self.sock: Any = Gate()
        self.gate: Gate = self.sock
        self.pong_received = False
        self.connected = True
        self.closed: list[int | None] = []
        self.input_buffer: list[str | bytes] = []

    def receive(self, timeout: float | None = None) -> str | bytes:
        raise NotImplementedError

    def close(self, reason: int | None = None, message: str | None = None) -> None:
        self.closed.append(reason)


def frames(count: int) -> list[bytes]:
    return [b"%d;" % i for i in range(count)]


def started(limit: int) -> tuple[Client, Subscription, FakeSocket]:
    ws = FakeSocket()
    client = Client(ws, limit=limit)
    subscription = client.subscribe(lambda: b"initial;")
    subscription.refresh()
    client.start()
    return client, subscription, ws


def offer(subscription: Subscription, *frames: bytes) -> None:
    for frame in frames:
        subscription.offer(frame)
        subscription.client.push()


def wait_for(ws: FakeSocket, text: bytes) -> bytes:
    for _ in range(500):
        if text in b"".join(ws.gate.taken):
            break
        threading.Event().wait(0.01)
    return b"".join(ws.gate.taken)


def test_the_initial_comes_first_then_frames_in_order() -> None:
    client, series, ws = started(limit=10)
    ws.gate.open.set()
    wait_for(ws, b"initial;")
    offer(series, *frames(5))
    assert wait_for(ws, b"4;") == b"initial;0;1;2;3;4;"
    client.leave()


def test_what_the_kernel_takes_in_part_is_finished_before_anything_else() -> None:
    client, series, ws = started(limit=10)
    ws.gate.open.set()
    wait_for(ws, b"initial;")
    ws.gate.most = 3
    offer(series, b"a long frame;", b"the next;")
    client.say(b"pong;")
    assert wait_for(ws, b"pong;") == b"initial;a long frame;the next;pong;"
    client.leave()


def test_a_slow_client_gets_a_fresh_initial_in_place_of_what_it_missed() -> None:
    client, series, ws = started(limit=3)
    threading.Event().wait(0.05)  # the writer holds the first initial at the shut gate
    offer(series, *frames(4))
    ws.gate.open.set()
    offer(series, b"after;")
    sent = wait_for(ws, b"initial;initial;")
    assert sent == b"initial;initial;"
    offer(series, b"later;")
    assert wait_for(ws, b"later;") == b"initial;initial;later;"
    assert ws.closed == []
    client.leave()


def test_only_the_channels_that_wait_are_skipped_and_answers_are_kept() -> None:
    client, series, ws = started(limit=3)
    other = client.subscribe(lambda: b"other;")
    third = client.subscribe(lambda: b"third;")
    threading.Event().wait(0.05)
    client.say(b"answer;")
    offer(series, *frames(5))
    offer(other, b"o;", b"o;")  # the second is one too many: three, and two for each further channel
    offer(third, b"t;")
    ws.gate.open.set()
    sent = wait_for(ws, b"other;")
    assert sent == b"initial;answer;t;initial;other;"
    client.leave()


def test_a_client_overrun_twice_is_closed() -> None:
    client, series, ws = started(limit=3)
    threading.Event().wait(0.05)
    offer(series, *frames(4))
    for _ in range(4):
        client.say(b"answer;")  # the channel is owed its chart: only answers still pile up
    ws.gate.open.set()
    assert ws.gate.over.wait(5)
    assert ws.closed == [TRY_AGAIN_LATER]
    client.leave()


def test_who_answers_no_ping_is_cut_off() -> None:
    client, _, ws = started(limit=3)
    client.ping()
    ws.pong_received = True
    client.ping()
    assert not ws.gate.over.is_set()
    client.ping()
    assert ws.gate.over.is_set()
    client.leave()


def test_a_channel_that_was_left_is_not_refreshed_when_its_client_is_skipped() -> None:
    ws = FakeSocket()
    client = Client(ws, limit=4)
    left, kept = client.subscribe(lambda: b"left initial;"), client.subscribe(lambda: b"initial;")
    client.start()
    client.say(b"stuck;")
    while client._frames:
        threading.Event().wait(0.01)
    offer(left, b"old;", b"old;")
    client.unsubscribe(left)
    client.say(b"unsubscribed;")
    offer(kept, b"lost;", b"lost;", b"lost;")
    kept.begin()
    ws.gate.open.set()
    assert wait_for(ws, b"initial;") == b"stuck;unsubscribed;initial;"
    client.leave()


def test_who_wants_no_initial_loses_nothing_while_the_other_channels_load() -> None:
    ws = FakeSocket()
    client = Client(ws, limit=10)
    asked, loads = threading.Event(), threading.Event()

    def slow() -> bytes:
        asked.set()
        loads.wait(5)
        return b"initial;"

    client.subscribe(slow).begin()
    quiet = client.subscribe(lambda: b"", skipped=b"skipped;")
    refilled = client.subscribe(lambda: b"refill;", skipped=b"skipped;", refill=True)
    quiet.begin()
    refilled.begin()
    ws.gate.open.set()
    client.start()
    asked.wait(5)
    offer(quiet, b"bar;")
    offer(refilled, b"in the refill;")
    loads.set()
    assert wait_for(ws, b"refill;") == b"initial;bar;refill;"
    quiet.refresh()
    assert wait_for(ws, b"skipped;") == b"initial;bar;refill;skipped;"
    client.leave()


def idle(*, channels: int = 1) -> tuple[Client, list[Subscription], FakeSocket]:
    """A client for which nothing waits, behind an open gate."""
    ws = FakeSocket()
    client = Client(ws, limit=4)
    subscriptions = [client.subscribe(lambda: b"initial;") for _ in range(channels)]
    ws.gate.open.set()
    client.start()
    while client.at_once is None:
        threading.Event().wait(0.001)
    return client, subscriptions, ws


def write(client: Client, frame: bytes) -> bool:
    """Whether the frame was written at once."""
    taken = NOTHING if client.at_once is None else client.at_once(frame)
    if taken == PART:
        client.finish()
    return taken != NOTHING


def channel_of(*subscriptions: Subscription) -> Channel:
    channel = Channel("c", every_s=0)
    channel.subscribers = set(subscriptions)
    return channel


def test_what_nothing_is_before_is_written_by_who_tells_it() -> None:
    client, (series,), ws = idle()
    touched: set[Client] = set()
    for frame in frames(3):
        channel_of(series).tell(frame, touched)
    assert (ws.gate.taken, touched) == (frames(3), set())
    client.leave()
    assert not write(client, b"gone;")


def test_the_frames_of_several_channels_leave_in_one_write() -> None:
    client, (one, other), ws = idle(channels=2)
    touched: set[Client] = set()
    channel_of(one).tell(b"one;", touched)
    channel_of(other).tell(b"other;", touched)
    assert (ws.gate.taken, touched) == ([], {client})
    client.push()
    assert ws.gate.taken == [b"one;other;"]
    channel_of(one).tell(b"alone;", touched, alone=True)
    assert ws.gate.taken == [b"one;other;", b"alone;"]
    client.unsubscribe(other)
    channel_of(one).tell(b"left alone;", touched)
    assert ws.gate.taken[2:] == [b"left alone;"]
    client.leave()


def test_who_wants_completed_bars_gets_no_others_at_once_either() -> None:
    client, (series,), ws = idle()
    series.completed_only = True
    channel_of(series).tell(b"open;closed;", set(), completed=b"closed;")
    channel_of(series).tell(b"open;", set(), completed=b"")
    assert ws.gate.taken == [b"closed;"]
    client.leave()


def test_the_rest_of_a_frame_goes_out_before_what_comes_after_it() -> None:
    client, (series,), ws = idle()
    ws.gate.most = 3
    for frame in (b"first;", b"second;", b"third;"):
        if not write(client, frame):
            offer(series, frame)
    assert wait_for(ws, b"third;") == b"first;second;third;"
    client.leave()


def test_nothing_is_written_at_once_while_the_kernel_is_full_or_something_waits() -> None:
    client, (series,), ws = idle()
    ws.gate.open.clear()
    assert not write(client, b"refused;")
    offer(series, b"queued;")
    assert not write(client, b"too early;")
    ws.gate.open.set()
    assert wait_for(ws, b"queued;") == b"queued;"
    while client.at_once is None:
        threading.Event().wait(0.001)
    assert write(client, b"idle again;")
    series.refresh()
    assert not write(client, b"an initial is owed;")
    assert wait_for(ws, b"initial;") == b"queued;idle again;initial;"
    client.leave()


def test_a_client_that_closes_gets_nothing_more_and_its_socket_dies_once() -> None:
    client, (series,), ws = idle()
    assert write(client, b"last;")
    client.close(TRY_AGAIN_LATER, "over")
    assert not write(client, b"after the end;")
    offer(series, b"after the end;")
    assert ws.gate.over.wait(5)
    assert (ws.gate.taken, ws.closed) == ([b"last;"], [TRY_AGAIN_LATER])


def test_a_write_at_once_keeps_off_a_socket_that_another_thread_writes_to() -> None:
    client, (series,), ws = idle()
    ws.gate.open.clear()
    pong = threading.Thread(target=ws.sock.sendall, args=(b"pong;",))  # as simple-websocket answers a ping
    pong.start()
    while not client._sock._lock.locked():
        threading.Event().wait(0.001)
    assert not write(client, b"in between;")
    offer(series, b"update;")
    ws.gate.open.set()
    pong.join(5)
    assert wait_for(ws, b"update;") == b"pong;update;"
    client.leave()


def test_threads_that_write_at_once_and_through_the_queue_lose_and_cut_nothing() -> None:
    client, (series,), ws = idle()
    client._limit = 10_000
    ws.gate.most = 4

    def tell(name: bytes) -> None:
        for number in range(100):
            frame = b"<%s%d>" % (name, number)
            if number % 3 or not write(client, frame):
                offer(series, frame)

    threads = [threading.Thread(target=tell, args=(name,)) for name in (b"a", b"b")]
    for each in threads:
        each.start()
    for each in threads:
        each.join(10)
    offer(series, b"end;")
    told = re.findall(rb"<([ab])(\d+)>", wait_for(ws, b"end;"))
    for name in (b"a", b"b"):
        assert [int(number) for teller, number in told if teller == name] == list(range(100))
    assert b"".join(ws.gate.taken) == b"".join(b"<%s%s>" % each for each in told) + b"end;"
    client.leave()


def test_a_message_that_takes_long_holds_up_nobody_who_tells_of_the_watchlist() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def read() -> list[Instrument]:
        begun.set()
        go_on.wait(5)
        return [BTC]

    class FakeHub:
        members = Members(lambda: [BTC])

        def join_series(self, *_: Any) -> tuple[None, None]:
            return None, None

    ws = FakeSocket()
    ws.gate.open.set()
    client = Client(ws, limit=10)
    client.start()
    session = Session(FakeHub(), client, read_instruments=read, limits=Limits(10, 10_000, 100))  # type: ignore[arg-type]
    say = '{"action":"subscribe","channels":["binance:*@1m"],"initial":false}'
    slow = threading.Thread(target=session.hear, args=(say,))
    slow.start()
    assert begun.wait(5)
    session.follow([BTC, ETH])  # returns, though the session is busy for as long as we want
    assert slow.is_alive()
    go_on.set()
    slow.join(5)
    told = wait_for(ws, b"binance:ETH/USDT@1m")
    assert b'"by":"binance:*@1m","channels":["binance:ETH/USDT@1m"]' in told
    client.leave()
