"""Each process is told once, whoever speaks of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from app.config import load_settings
from app.services.processes import heard, process_rows, stale_s, supervised, whole
from webapp.slots import names_of, others_of, slot_of


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


def test_one_of_several_that_hangs_is_told() -> None:
    beats = {"up": up(web="ready"), "web.1": {"age_s": 1.0}, "web.2": {"age_s": 50.0}}
    children = supervised(beats)
    rows = process_rows(children, [{"name": name, "stale": beat["age_s"] > 30, **beat} for name, beat in beats.items()])
    assert [(row["name"], row["state"], row["heard_s"]) for row in rows] == [
        ("web", "ready", 50.0),
        ("web.1", "heard", 1.0),
        ("web.2", "silent", 50.0),
    ]
    assert heard("web@b", beats) is None and heard("web.1", beats) == {"age_s": 1.0}
    assert heard("web@b.example", {"web@b.example": {"age_s": 2.0}}) == {"age_s": 2.0}
    assert [whole(name) for name in ("web.2@b.example", "web@b.example", "worker-trades")] == [
        "web@b.example", "web@b.example", "worker-trades",
    ]  # fmt: skip


def test_a_worker_takes_the_slot_of_its_predecessor() -> None:
    def living(*slots: int) -> list[SimpleNamespace]:
        return [SimpleNamespace(slot=slot) for slot in slots]

    assert slot_of(range(1, 4), living()) == 1
    assert slot_of(range(1, 4), living(1, 3)) == 2
    assert slot_of(range(1, 4), living(1, 2, 3, 1)) == 2, "in a reload predecessors live on for a while"


def test_names_of_more_workers_or_of_one_alone_are_nobodys() -> None:
    assert names_of("web", 1) == ["web"] and names_of("web", 2) == ["web.1", "web.2"]
    assert others_of("web", 1)[:2] == ["web.1", "web.2"] and "web" not in others_of("web", 1)
    assert others_of("web", 2)[:2] == ["web", "web.3"] and not {"web.1", "web.2"} & set(others_of("web", 2))


def test_an_up_that_is_gone_says_nothing_any_more() -> None:
    assert supervised({"up": up(60.0, web="ready")}) == []


@pytest.mark.parametrize(
    ("name", "feed", "seconds"),
    [
        ("streamer-binance", "connected", 15),
        ("streamer-binance@b", None, 15),
        ("worker-trades@b", None, 30),
        ("web", None, 30),
        ("web.2@b", None, 30),
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
