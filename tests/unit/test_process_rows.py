"""Each process is told once, whoever speaks of it."""

from __future__ import annotations

from typing import Any

import pytest

from app.config import load_settings
from app.services.processes import process_rows, stale_s, supervised


def up(age_s: float = 1.0, **children: str) -> dict[str, Any]:
    told = {name: {"state": state, "pid": 7, "restarts": 0} for name, state in children.items()}
    return {"pid": 1, "children": told, "age_s": age_s}


def test_a_child_and_its_heartbeat_are_one_row() -> None:
    beats = {
        "up": up(web="ready", beat="restarting"),
        "web": {"age_s": 2.04, "pid": 9},
        "other": {"age_s": 1.0, "n": 3},
    }
    children = supervised(beats)
    rows = process_rows(children, [{"name": name, "stale": name == "other", **beat} for name, beat in beats.items()])
    assert [(row["name"], row["state"], row["pid"], row["heard_s"]) for row in rows] == [
        ("web", "ready", 7, 2.0),
        ("beat", "restarting", 7, None),
        ("other", "silent", None, 1.0),
    ]
    assert rows[2]["facts"] == {"n": 3}


def test_without_a_supervisor_the_process_says_its_own_pid() -> None:
    beat = {"name": "worker", "stale": False, "age_s": 3.0, "pid": 12, "pool": 2, "beat_ms": 5, "life": "ab"}
    (row,) = process_rows([], [beat])
    assert row == {
        "name": "worker", "state": "heard", "pid": 12, "restarts": None, "heard_s": 3.0, "facts": {"pool": 2},
    }  # fmt: skip


def test_of_two_machines_each_has_its_own_children() -> None:
    beats = {"up": up(web="ready"), "up@b": up(web="starting"), "web": {"age_s": 1.0}, "web@b": {"age_s": 1.0}}
    assert [(child["name"], child["state"]) for child in supervised(beats)] == [("web", "ready"), ("web@b", "starting")]
    assert set(beats) == {"web", "web@b"}


def test_an_up_that_is_gone_says_nothing_any_more() -> None:
    assert supervised({"up": up(60.0, web="ready")}) == []


@pytest.mark.parametrize(
    ("name", "feed", "seconds"),
    [
        ("streamer-binance", "connected", 15),
        ("streamer-binance@b", None, 15),
        ("worker-trades@b", None, 30),
        ("web", None, 30),
        ("poller-yahoo", "closed", float("inf")),
        ("poller-yahoo", "connected", 960),
    ],
)
def test_how_long_a_process_may_be_silent(name: str, feed: str | None, seconds: float) -> None:
    assert stale_s(name, feed) == seconds


def test_an_instance_is_part_of_the_name() -> None:
    assert load_settings(_env_file=None).named("web") == "web"
    assert load_settings(process_instance="b", _env_file=None).named("web") == "web@b"
    told = load_settings(process_instance="auto", _env_file=None).named("web")
    assert told.startswith("web@") and told != "web@auto"
