"""Frames on the wire, and charts joined from encoded pieces."""

from __future__ import annotations

import json

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol

from app.services.bounded import Bounded
from app.services.encoded import CUTTABLE, Elements, EncodedChart, chart_json
from webapp import frames


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 300_000])
def test_a_frame_is_what_wsproto_reads(size: int) -> None:
    client = FrameProtocol(client=True, extensions=[])
    client.receive_bytes(frames.text_frame(b"x" * size) + frames.PING)
    received = list(client.received_frames())
    assert "".join(part.payload for part in received[:-1]) == "x" * size
    assert received[-2].message_finished
    assert received[-1].opcode == 0x9


@given(count=st.integers(0, 400), drop=st.integers(0, 400))
def test_elements_are_cut_at_their_ends(count: int, drop: int) -> None:
    rows = [{"time": i, "text": "é," * (i % 3)} for i in range(count)]
    elements = Elements.of(rows)
    if CUTTABLE < drop < count:
        with pytest.raises(ValueError, match="oldest"):
            elements.without(drop)
    else:
        assert json.loads(b"[" + elements.without(drop) + b"]") == rows[drop:]
    assert elements.before(drop) == min(drop, count, CUTTABLE)


@given(bars=st.integers(0, 30), rows=st.integers(0, 30))
def test_an_encoded_chart_is_read_back(bars: int, rows: int) -> None:
    chart = EncodedChart(
        7,
        Elements.of([{"time": i, "note": "\n"} for i in range(bars)]),
        Elements.of([{"time": i} for i in range(rows)]),
    )
    assert EncodedChart.read(chart.dump()) == chart


@pytest.mark.parametrize("value", [None, b"", b"{}", b"[]\n", b"null\n{}", b"\xff"])
def test_a_foreign_value_is_no_chart(value: bytes | None) -> None:
    assert EncodedChart.read(value) is None


def test_empty_pieces_leave_no_comma() -> None:
    text = chart_json(
        {"symbol": "A", "exchange": "b", "timeframe": "1m"}, bars=[b"", b'{"time":1}', b""], indicators=[b"", b""]
    )
    assert json.loads(text) == {
        "symbol": "A",
        "exchange": "b",
        "timeframe": "1m",
        "bars": [{"time": 1}],
        "indicators": [],
    }


NUMBERS = st.one_of(st.floats(allow_infinity=False), st.sampled_from([0.0, -0.0, 1e16, 1e-7, 123456.78, 5e-324]))


@given(rows=st.lists(st.tuples(NUMBERS, NUMBERS, st.sampled_from(["open", "closed"])), max_size=300))
def test_columns_are_encoded_as_their_rows_would_be(rows: list[tuple[float, float, str]]) -> None:
    time_ms = np.arange(len(rows), dtype=">i8") * 60_000
    first, second = (np.array([row[k] for row in rows], ">f8") for k in (0, 1))
    words = [orjson.dumps(row[2]) for row in rows]
    found = Elements.of_columns(time_ms, {"a": first, "b": second, "state": words})
    wanted = [{"time": 60_000 * n, "a": row[0], "b": row[1], "state": row[2]} for n, row in enumerate(rows)]
    assert found == Elements.of(wanted)


@given(sizes=st.lists(st.integers(0, 12), max_size=40))
def test_a_bounded_memory_lets_go_what_was_used_least(sizes: list[int]) -> None:
    memory: Bounded[int, int] = Bounded(20)
    kept: dict[int, int] = {}
    for key, size in enumerate(sizes):
        key %= 7
        memory.set(key, key, size=size)
        kept.pop(key, None)
        kept[key] = size
        while sum(kept.values()) > 20:
            del kept[next(iter(kept))]
    assert {key for key in range(7) if memory.get(key) == key} == set(kept)
