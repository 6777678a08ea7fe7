"""Disks that get full, mounted for a test."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path | None]:
    """A disk of so many bytes; None where none may be mounted."""
    folder.mkdir()
    root = ["sudo", "-n"] if os.geteuid() and shutil.which("sudo") else []
    command = [*root, "mount", "-t", "tmpfs", "-o", f"size={size},mode=1777", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        print(f"no small disk: {mounted.stderr.strip()}")
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run([*root, "umount", str(folder)], check=True)
