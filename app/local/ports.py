"""TCP ports of the children: free ones, and one clear message where a chosen one is taken."""

from __future__ import annotations

import errno
import socket

from app.config import Settings
from app.errors import ServerFailed
from app.local.servers import free_port

# What listens on a port of the user's choice: (host setting or address, port setting).
CHOSEN = (("web_host", "web_port"), ("", "flower_port"), ("sandbox_host", "sandbox_port"))


def claim_ports(settings: Settings) -> Settings:
    """The settings with every port 0 replaced by a free one; raises ServerFailed for one that is taken."""
    chosen: dict[str, int] = {}
    for host_name, port_name in CHOSEN:
        if port_name == "sandbox_port" and settings.market != "sandbox":
            continue
        host = str(getattr(settings, host_name)) if host_name else "127.0.0.1"
        port = int(getattr(settings, port_name))
        if port == 0:
            port = free_port()
            while port in chosen.values():
                port = free_port()
        else:
            _require_free(host, port, port_name.upper())
        chosen[port_name] = port
    return settings.model_copy(update=chosen)


def _require_free(host: str, port: int, setting: str) -> None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do: TIME_WAIT is free
            probe.bind(address)
    except OSError as error:
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be opened ({error.strerror})"
        raise ServerFailed(
            f"port {port} on {host} {reason}: set {setting} to another port (0 takes a free one)"
        ) from error
