"""One WebSocket client: its subscriptions, a bounded queue of frames, and the thread that writes what has to wait."""

from __future__ import annotations

import _thread
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from loguru import logger

from webapp import frames
from webapp.errors import describe
from webapp.whole_socket import WholeSocket

TRY_AGAIN_LATER, UNSUPPORTED = 1013, 1008
PER_SUBSCRIPTION = 2  # frames more that may wait for each channel beside the first


class Socket(Protocol):
    """What simple-websocket gives a route: the raw socket and the protocol around it."""

    sock: Any
    pong_received: bool
    connected: bool
    input_buffer: list[str | bytes]

    def receive(self, timeout: float | None = None) -> str | bytes | None: ...
    def close(self, reason: int | None = None, message: str | None = None) -> None: ...


class Subscription:
    """What a client gets of one channel; `load` gives the frames of a fresh `initial`.

    Where none is wanted, `skipped` tells that something was left out; a `refill` is one that is wanted at first all the
    same.
    """

    __slots__ = ("behind", "client", "completed_only", "left", "load", "skipped")

    def __init__(
        self,
        client: Client,
        load: Callable[[], bytes],
        *,
        completed_only: bool = False,
        skipped: bytes = b"",
        refill: bool = False,
    ) -> None:
        self.client, self.load, self.completed_only, self.skipped = client, load, completed_only, skipped
        self.behind = refill or not skipped  # what is owed stands for the frames that come until it is sent
        self.left = False

    def offer(self, frame: bytes) -> None:
        """Queue a frame; it goes out with the next push. Never blocks."""
        self.client.queue(frame, self)

    def begin(self) -> None:
        """Have the first `initial` sent, or none where none was asked for."""
        self.client.owe(self)

    def refresh(self) -> None:
        """Have a fresh `initial` sent; until it is read, no other frame of the channel is needed."""
        self.behind = True
        self.client.owe(self)

    def fresh(self) -> bytes:
        """The frames that are owed."""
        data = self.load()
        if self.skipped:
            data = data or (self.skipped if self.behind else b"")
            self.behind = False
        return data


class Client:
    """A connected browser or bot.

    More than `limit` frames waiting, it is skipped: of each channel that has some, a fresh `initial` takes their place.
    Overrun again before it has caught up, it is closed with 1013. What it is to get while nothing waits skips the
    queue: `at_once` hands it to the kernel as it is (WholeSocket.write_now), and is None where something is before it:
    queued, owed, or half written. Who uses it takes no lock of the queue: what another thread queues at this moment
    comes before or after, and either is an order. After a PART, `finish` has to be called.
    """

    __slots__ = (
        "_close", "_frames", "_gone", "_left_out", "_limit", "_lock", "_owed", "_pinged", "_skipped", "_sock",
        "_subscriptions", "_writing", "_ws", "at_once", "single",
    )  # fmt: skip

    def __init__(self, ws: Socket, *, limit: int) -> None:
        self._ws, self._limit = ws, limit
        self._sock = ws.sock = WholeSocket(ws.sock, unread=lambda: len(ws.input_buffer) if ws.connected else 0)
        self._frames: deque[tuple[Subscription | None, bytes]] = deque()
        self._owed: dict[Subscription, None] = {}  # in the order in which they are to be sent
        self._subscriptions = self._left_out = 0
        self.single = False  # whether it has one channel, so that no two frames of a flush can share a write
        self._lock = threading.Lock()
        self._skipped = self._gone = False
        self._writing = True  # whether a thread writes; before start() as if one did, so that all waits
        self.at_once: Callable[[bytes], int] | None = None
        self._close: tuple[int, str] | None = None
        self._pinged = False

    @property
    def over(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._gone or not self._ws.connected

    def start(self) -> None:
        """Begin to write what is queued."""
        with self._lock:
            self._writing = False
            self._wake()

    def subscribe(
        self, load: Callable[[], bytes], *, completed_only: bool = False, skipped: bytes = b"", refill: bool = False
    ) -> Subscription:
        """A subscription more, to be given to a channel."""
        with self._lock:
            self._count(1)
        return Subscription(self, load, completed_only=completed_only, skipped=skipped, refill=refill)

    def unsubscribe(self, subscription: Subscription) -> None:
        """Nothing of the subscription is owed any more; what waits already is still sent."""
        with self._lock:
            self._count(-1)
            subscription.left = True
            self._owed.pop(subscription, None)

    def say(self, frame: bytes) -> None:
        """Send a frame of no channel after what waits: an answer, an error, a ping. Never blocks."""
        self.queue(frame, None)
        self.push()

    def finish(self) -> None:
        """Write what is left of a frame."""
        with self._lock:
            self._wake()

    def queue(self, frame: bytes, of: Subscription | None) -> None:
        """Have a frame wait for the next push."""
        with self._lock:
            if self._gone or self._close:
                return
            self.at_once = None
            if of is None or of not in self._owed or not of.behind:
                self._frames.append((of, frame))
            elif self._skipped:
                self._left_out += 1  # its `initial` will say it, but the client is no quicker for that
            if len(self._frames) + self._left_out > self._limit + PER_SUBSCRIPTION * max(0, self._subscriptions - 1):
                self._overrun()

    def push(self) -> None:
        """Write what waits: at once where the kernel takes it, else by the writing thread. Never blocks."""
        with self._lock:
            if not self._writing and self._frames and not self._owed and self._sock.write_now(self._joined()):
                self._frames.clear()
            if self._waits():
                self._wake()
            else:
                self.at_once = None if self._writing or self._gone else self._sock.write_now

    def owe(self, subscription: Subscription) -> None:
        """Have a fresh `initial` of the subscription sent after what waits."""
        with self._lock:
            self._owed[subscription] = None
            self._wake()

    def close(self, code: int, reason: str) -> None:
        """Close once what is queued has been written."""
        with self._lock:
            self._close = self._close or (code, reason)
            self._wake()

    def leave(self) -> None:
        """Stop writing: the connection is over."""
        with self._lock:
            self._gone = True
            self._frames.clear()
            self._owed.clear()
            self._wake()

    def ping(self) -> None:
        """Ask whether it lives; one that has not answered the last time is cut off."""
        if self._pinged and not self._ws.pong_received:
            logger.info("client cut off: it answers no ping")
            self._sock.shutdown()
            return
        self._ws.pong_received, self._pinged = False, True
        self.say(frames.PING)

    def _count(self, more: int) -> None:
        self._subscriptions += more
        self.single = self._subscriptions == 1

    def _waits(self) -> bool:
        return bool(self._frames or self._owed or self._close or self._sock.rest)

    def _wake(self) -> None:
        """Have a thread write until nothing waits; it is there only for so long, since most clients never need one."""
        self.at_once = None
        if not (self._writing or self._gone):
            self._writing = True
            _thread.start_new_thread(self._write, ())  # which, unlike Thread.start, waits for nobody

    def _overrun(self) -> None:
        waiting = {one: None for one, _ in self._frames if one is not None}
        late = {one: None for one in waiting if not one.left}
        if self._skipped or not waiting:
            logger.info("slow client closed")
            self._frames.clear()
            self._owed.clear()
            self._close = (TRY_AGAIN_LATER, "too slow: reconnect")
            self._wake()
            return
        logger.info("slow client skipped to the newest")
        self._skipped = True
        self._frames = deque(item for item in self._frames if item[0] is None)  # answers are not made again
        for one in late:
            one.behind = True
        self._owed |= late
        self._wake()

    def _joined(self) -> bytes:
        return b"".join(frame for _, frame in self._frames)

    def _write(self) -> None:
        try:
            while self._write_next():
                continue
        except OSError as error:
            logger.debug("client went away: {}", error)
            self._sock.shutdown()
            self.leave()

    def _write_next(self) -> bool:
        """Write what is next; False: nothing is left to write."""
        with self._lock:
            if self._gone:
                return False
            if not self._waits():
                self._skipped, self._left_out = False, 0  # it has caught up
                self._writing, self.at_once = False, self._sock.write_now
                return False
            data, owed = b"", None
            if self._frames or self._sock.rest:
                data = self._joined()
                self._frames.clear()
            elif not self._close:
                owed = next(iter(self._owed))
                del self._owed[owed]
            closing = None if data or owed or self._sock.rest else self._close
        if closing:
            self._end(*closing)
            return False
        self._sock.sendall(self._fresh(owed) if owed else data)
        return True

    def _end(self, code: int, reason: str) -> None:
        try:
            self._ws.close(code, reason)
            self._sock.shutdown()
        finally:
            self.leave()

    def _fresh(self, subscription: Subscription) -> bytes:
        try:
            return subscription.fresh()
        except Exception as error:  # noqa: BLE001  # whatever it is, this client is told, and the others live on
            status, code, text = describe(error)
            logger.opt(exception=error if status == 500 else None).warning("no initial chart: {}", type(error).__name__)
            self.close(TRY_AGAIN_LATER, "try again")
            return frames.error(code, text)
