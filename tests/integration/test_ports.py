"""Ports for servers: free, new each time, and none that an outgoing connection could take first."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from app.local import servers
from app.local.servers import HOST, free_port

OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")


def test_a_port_that_somebody_listens_on_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = free_port(), free_port()
    monkeypatch.setattr(servers, "PORTS", (first, second))
    servers._given.clear()
    with socket.create_server((HOST, first)):
        assert free_port() == second


def test_ports_differ() -> None:
    assert len({free_port() for _ in range(100)}) == 100


@pytest.mark.skipif(not OUTGOING.exists(), reason="tells the ports of outgoing connections only on Linux")
def test_no_outgoing_connection_can_take_a_port() -> None:
    lowest = int(OUTGOING.read_text().split()[0])
    if lowest < 32_768:
        pytest.skip("this system was told to give lower ports than Linux does by itself")
    assert max(servers.PORTS) < lowest


def test_a_member_of_a_redis_cluster_finds_its_second_port() -> None:
    assert max(servers.PORTS) + 10_000 <= 65_535
