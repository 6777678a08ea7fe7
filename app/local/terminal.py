"""The terminal and limits of the `up` process."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def own_foreground() -> Iterator[None]:
    """Makes this process the terminal's foreground group, so that Ctrl-C reaches it alone.

    Under `make demo`, make would get the Ctrl-C as well and end with "Error 130" however cleanly the platform stops.
    Started by an interactive shell the process leads its group already, and nothing is done.
    """
    if not sys.stdin or not sys.stdin.isatty() or os.getpgrp() == os.getpid():
        yield
        return
    terminal, group = sys.stdin.fileno(), os.getpgrp()
    if os.tcgetpgrp(terminal) != group:  # in the background: the terminal is someone else's
        yield
        return
    old = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTTOU, signal.SIGTSTP)}
    os.setpgid(0, 0)
    os.tcsetpgrp(terminal, os.getpid())
    try:
        yield
    finally:
        with suppress(OSError):  # the terminal may have been closed: that was why we end
            os.tcsetpgrp(terminal, group)
        for number, handler in old.items():
            signal.signal(number, handler)


def raise_file_limit() -> None:
    """Allows as many open files as the system lets us: each WebSocket is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
