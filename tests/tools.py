"""Programs that only some tests need, and a machine may lack."""

from __future__ import annotations

import os
import shutil

import pytest


def tool(name: str) -> str:
    """The program's path; skips the test where it is not installed, and fails it there with REQUIRE_TOOLS=1."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found:
        return found
    if os.environ.get("REQUIRE_TOOLS") == "1":
        pytest.fail(f"{name} is not installed, and REQUIRE_TOOLS=1 asks for it")
    pytest.skip(f"{name} is not installed")
