"""The platform's processes, each told once: what `up` knows of its children, joined with what they say themselves."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from app.services.feed_states import patience_s

STALE_S = 15.0  # the heartbeat of a streamer that is older than this is no heartbeat
SILENT_S = 30.0  # nor is another process's: it beats every 5 s, in a loop that has work to do
SUPERVISED = frozenset({"streamer", "worker", "beat", "web", "flower"})  # the kinds that beat and that `up` starts
_ASIDE = ("name", "stale", "age_s", "beat_ms", "pid", "life")


def stale_s(name: str, feed: str | None = None) -> float:
    """How old the heartbeat of a process may be before it is taken for gone; `feed` as a poller told it last."""
    kind = name.partition("-")[0]
    if kind == "streamer":
        return STALE_S
    return patience_s(name, feed) if kind == "poller" else SILENT_S


def whole(name: str) -> str:
    """The process that `name` is one of several of: `web@b` of `web.2@b`; itself where it is one alone."""
    process, at, instance = name.partition("@")
    return f"{process.partition('.')[0]}{at}{instance}"


def heard(process: str, beats: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The heartbeat of a process; of one that is several that of the one that has been silent for longest."""
    parts = [beat for name, beat in beats.items() if whole(name) == process and name != process]
    return max(parts, key=lambda beat: float(beat["age_s"])) if parts else beats.get(process)


def strays(beats: Iterable[str], children: Collection[str], *, instance: str) -> list[str]:
    """The heartbeats of an instance that are of kinds `up` starts, and of none of its children.

    Those of killed processes that do not come back: of shards there were more of, of a feed whose key is gone. One that
    lives (started by hand, or on a machine that should have a PROCESS_INSTANCE) beats again within seconds.
    """
    found = []
    for name in beats:
        process, _, where = whole(name).partition("@")
        if where == instance and process.partition("-")[0] in SUPERVISED and process not in children:
            found.append(name)
    return found


def supervised(beats: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The children of each `up` that lives, {"name", "state", "pid", "restarts"}; its own beat is taken out."""
    children = []
    for name in [name for name in beats if name.partition("@")[0] == "up"]:
        told = beats.pop(name)
        if told["age_s"] <= STALE_S:
            where = name.removeprefix("up")
            children += [{"name": f"{child}{where}", **facts} for child, facts in told["children"].items()]
    return children


def process_rows(children: Iterable[Mapping[str, Any]], beats: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """{"name", "state", "pid", "restarts", "heard_s", "facts"} of each process; what is not known is None or empty.

    `state` is what its supervisor says; without one `heard`, or `silent` where the heartbeat is stale.
    """
    told = {beat["name"]: beat for beat in beats}
    rows = [_row(child["name"], child["state"], child, heard(child["name"], told)) for child in children]
    named = {row["name"] for row in rows}
    rows += [
        _row(name, "silent" if beat["stale"] else "heard", {}, beat) for name, beat in told.items() if name not in named
    ]
    return rows


def _row(name: str, state: str, child: Mapping[str, Any], beat: Mapping[str, Any] | None) -> dict[str, Any]:
    beat = beat or {}
    age_s = beat.get("age_s")
    return {
        "name": name,
        "state": state,
        "pid": child.get("pid") if child else beat.get("pid"),
        "restarts": child.get("restarts"),
        "heard_s": None if age_s is None else round(age_s, 1),
        "facts": {key: value for key, value in beat.items() if key not in _ASIDE},
    }
