"""Frames on the wire, and charts joined from encoded pieces."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol

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
