"""Which platforms run on a checkout; `make clean` asks before it removes what they stand on.

It is run by its path and needs the standard library alone: who cleans up may have a broken environment.
"""

from __future__ import annotations

import fcntl
import sys
from pathlib import Path


def running(folder: Path) -> list[Path]:
    """The data directories in `folder` that an `up` holds, in whatever state its platform is."""
    found = []
    for path in sorted(folder.glob(".data*/up.lock")):
        with path.open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                found.append(path.parent)
    return found


def main() -> int:
    """1 with a message where one runs here."""
    found = running(Path())
    if found:
        print(f"the platform runs on {', '.join(map(str, found))}: stop it first", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
