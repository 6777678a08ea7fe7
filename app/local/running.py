"""Which platforms run on a checkout; `make clean` asks before it removes what they stand on.

It is run by its path and needs the standard library alone: who cleans up may have a broken environment.
"""

from __future__ import annotations

import fcntl
import os
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


def in_use(folder: Path) -> bool:
    """Whether an `up` of the checkout `folder` runs, wherever its data is: each one shares a lock on the folder."""
    checkout = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(checkout, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # a file system without such locks: nobody has one
    finally:
        os.close(checkout)
    return False


def main() -> int:
    """1 with a message where one runs here."""
    found = ", ".join(map(str, running(Path())))
    if found or in_use(Path()):
        print(f"the platform runs on {found or 'a DATA_DIR elsewhere'}: stop it first", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
