"""gunicorn on a machine where no disk may be mounted: one folder is told as a small disk of its own, by its files.

`python -m tests.monitoring.pretended_disk …` is `gunicorn …` with PRETENDED_DISK, a folder, and PRETENDED_BYTES.
"""

from __future__ import annotations

import os
import runpy
import shutil
from pathlib import Path
from typing import Any

FOLDER, TOTAL = Path(os.environ["PRETENDED_DISK"]), int(os.environ["PRETENDED_BYTES"])
_look = shutil.disk_usage


def _told(path: Any) -> Any:
    usage = _look(path)
    if Path(path) != FOLDER:
        return usage
    used = sum(file.stat().st_size for file in FOLDER.iterdir())
    return type(usage)(TOTAL, used, TOTAL - used)


if __name__ == "__main__":
    shutil.disk_usage = _told
    runpy.run_module("gunicorn", run_name="__main__", alter_sys=True)
