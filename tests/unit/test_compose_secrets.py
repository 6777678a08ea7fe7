"""The secrets of docker-compose.yml as their script makes them and as containers read them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.config import ROOT, load_settings
from tests import compose

SERVICES = compose.load()["services"]


@pytest.fixture(scope="module")
def secrets() -> Iterator[Path]:
    """The files, in a folder that other users get at, as at the mount of each in a container."""
    folder = Path(tempfile.mkdtemp(prefix="secrets-", dir="/var/tmp"))
    command = ["sh", str(ROOT / "docker" / "secrets.sh"), str(folder)]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_an_empty_one_is_the_default(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in SERVICES["web"]["environment"].items():
        if variable.endswith("_FILE"):
            monkeypatch.setenv(variable, value.replace("/run/secrets", str(secrets)))
    found = load_settings(_env_file=None)
    assert found.broker_url == found.redis_url == (secrets / "redis_url").read_text(encoding="utf-8").strip()
    assert found.database_read_url == found.alpaca_api_key == ""


def test_another_broker_and_a_replica_are_taken_from_theirs(
    secrets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(secrets, tmp_path, dirs_exist_ok=True)
    (tmp_path / "broker_url").write_text("amqp://market:secret@rabbit.example.org:5672/market\n", encoding="utf-8")
    (tmp_path / "database_read_url").write_text(
        "postgresql://market:secret@replica.example.org/market\n", encoding="utf-8"
    )
    for variable, value in SERVICES["web"]["environment"].items():
        if variable.endswith("_FILE"):
            monkeypatch.setenv(variable, value.replace("/run/secrets", str(tmp_path)))
    found = load_settings(_env_file=None)
    assert found.broker_url == "amqp://market:secret@rabbit.example.org:5672/market"
    assert found.database_read_url == "postgresql://market:secret@replica.example.org/market"


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="becomes other users")
@pytest.mark.parametrize("user", sorted({service["user"] for service in SERVICES.values() if "secrets" in service}))
def test_each_user_reads_those_it_is_granted_and_has_no_right_of_roots(user: str, secrets: Path) -> None:
    granted = {name for service in SERVICES.values() if service["user"] == user for name in service.get("secrets", [])}
    uid, _, gid = user.partition(":")
    become = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]
    files = [str(secrets / name) for name in sorted(granted)]
    found = subprocess.run([*become, "--no-new-privs", "cat", *files], capture_output=True, timeout=30, check=False)
    assert found.returncode == 0, found.stderr.decode()
    assert found.stdout == b"".join(Path(file).read_bytes() for file in files)
