"""What is done beside a wait, and what becomes of its answer."""

from __future__ import annotations

import threading

import pytest

from app.services.beside import beside


def test_the_caller_goes_on_and_has_the_answer_when_it_asks() -> None:
    held, begun = threading.Event(), threading.Event()

    def act() -> int:
        begun.set()
        assert held.wait(30)
        return 7

    answer = beside(act)
    assert begun.wait(30), "it began before anybody asked"
    held.set()
    assert answer() == answer() == 7


def test_an_error_is_the_asker_s() -> None:
    answer = beside(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        answer()
