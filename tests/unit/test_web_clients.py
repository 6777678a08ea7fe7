"""What a client's queue does when its socket is slow; the socket is the seam."""

from __future__ import annotations

import threading
from typing import Any

from webapp.clients import TRY_AGAIN_LATER, Client, Subscription


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
