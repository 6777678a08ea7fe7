"""What is done beside the answers."""

from __future__ import annotations

import threading

import pytest

from webapp.later import Later


def test_it_is_done_in_turn_by_one_thread() -> None:
    later, done = Later(8), []
    for number in range(8):
        later(lambda number=number: done.append((number, threading.get_ident())))  # type: ignore[misc]
    later.wait()
    assert [number for number, _ in done] == list(range(8))
    assert len({thread for _, thread in done}) == 1
    assert done[0][1] != threading.get_ident()


def test_too_much_is_left_undone_and_nobody_waits() -> None:
    later, gate, begun, done = Later(2), threading.Event(), threading.Event(), []

    def hold() -> None:
        begun.set()
        gate.wait(10)

    later(hold)
    assert begun.wait(10)
    for number in range(5):
        later(lambda number=number: done.append(number))  # type: ignore[misc]
    gate.set()
    later.wait()
    assert done == [0, 1]


def test_what_fails_is_told_and_the_next_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[threading.ExceptHookArgs] = []
    over = threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda args: (told.append(args), over.set()))
    later, done = Later(2), []

    def fail() -> None:
        raise ValueError("no room")

    later(fail)
    assert over.wait(10)
    later._thread.join(10)  # type: ignore[union-attr]
    later(lambda: done.append(1))
    later.wait()
    assert [str(args.exc_value) for args in told] == ["no room"] and done == [1]
