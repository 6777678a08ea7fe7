"""docker-compose.yml against the compose specification, and against what we promise of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.config import ROOT, Settings
from app.local.processes import process_table
from app.local.runfile import Run
from tests import compose
from tests.tools import tool

PLATFORM = (
    "migrate", "streamer-binance", "streamer-alpaca", "worker-trades", "worker", "worker-history", "worker-backfill",
    "beat", "web", "flower",
)  # fmt: skip
STORES = ("timescaledb", "redis")
PROFILES = {"prometheus": "monitoring", "grafana": "monitoring", "caddy": "https"}
LOADED = compose.load()
SERVICES: dict[str, dict[str, Any]] = LOADED["services"]
# Of the images of others; every other name has to be a setting of ours.
FOREIGN = re.compile(r"(POSTGRES|TIMESCALEDB|TS_TUNE|GF)_[A-Z_]+|DOMAIN|XDG_[A-Z_]+")
each = pytest.mark.parametrize("name", SERVICES)


def test_all_files_are_valid_by_the_compose_specification(tmp_path: Path) -> None:
    files = [str(compose.COMPOSE)]
    for name in ("https", "flower", "external"):  # without the tags, which the schema's YAML does not know
        over = compose.load(ROOT / "docker" / f"{name}.yml")
        for service in over["services"].values():
            if service.get("ports", ()) is None:
                del service["ports"]
        files.append(str(tmp_path / f"{name}.json"))
        Path(files[-1]).write_text(json.dumps(over), encoding="utf-8")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", *files]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def test_the_services_are_those_we_promise() -> None:
    assert set(SERVICES) == {*PLATFORM, *STORES, *PROFILES}
    assert {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service} == {
        name: [profile] for name, profile in PROFILES.items()
    }


@each
def test_each_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"] and service["read_only"] is True
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged") and "network_mode" not in service and "pid" not in service
    root = service["user"].startswith("0")
    assert root == (name == "caddy"), "only the proxy is root, and a root without rights"
    assert service.get("cap_add", []) == (["NET_BIND_SERVICE"] if name == "caddy" else [])
    if name in PLATFORM:
        assert service["user"] == "10001:10001" and service["init"] is True


@each
def test_each_is_limited(name: str) -> None:
    service = SERVICES[name]
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    assert 0 < float(service["cpus"]) <= 1, "an engine with one core refuses a limit of more"
    assert 0 < service["pids_limit"] <= 512
    assert service["restart"] == ("no" if name == "migrate" else "unless-stopped")
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "5"}
    assert all("size=" in mount for mount in service.get("tmpfs", []))
    assert 10 <= compose.seconds(service["stop_grace_period"]) <= 60


def test_the_documents_tell_how_much_memory_the_limits_are_together() -> None:
    text = " ".join((ROOT / "docs" / "operations.md").read_text(encoding="utf-8").split())
    for profile, words in ((None, "together"), ("monitoring", "with `monitoring`"), ("https", "with `https`")):
        taken = sum(
            _megabytes(service["mem_limit"])
            for name, service in SERVICES.items()
            if service.get("profiles", [None]) == [profile] and name != "migrate"  # which has ended by then
        )
        assert f"{words} {taken / 1024:.3g} GB" in text, f"{words}: {taken / 1024:.3g} GB"


def test_the_example_of_an_override_is_valid_and_out_of_gits_way() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    (example,) = [block for block in re.findall(r"```yaml\n(.*?)```", text, re.S) if "x-mine" in block]
    for name, service in yaml.safe_load(example)["services"].items():
        assert name in PLATFORM and service["environment"]
        assert {variable.lower() for variable in service["environment"]} <= set(Settings.model_fields)
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert "docker-compose.override.yml" in ignored


def _megabytes(limit: str) -> int:
    return int(limit[:-1]) * {"m": 1, "g": 1024}[limit[-1]]


@each
def test_each_has_a_health_check(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    if name == "migrate":
        assert check == {"disable": True}
        return
    assert compose.check_command(SERVICES[name])
    assert compose.seconds(check["timeout"]) < compose.seconds(check["interval"])
    assert compose.seconds(check["start_period"]) >= 30 and check["retries"] >= 3


@each
def test_each_image_is_pinned(name: str) -> None:
    image = SERVICES[name]["image"]
    assert compose.is_ours(SERVICES[name]) == (name in PLATFORM)
    if name in PLATFORM:
        assert image == "market-data-platform:local"
        assert SERVICES[name]["pull_policy"] == "never", "nobody publishes it"
    else:
        assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+[a-z0-9.\-]*(@sha256:[0-9a-f]{64})?", image)


def test_the_platforms_image_is_built_once_by_the_service_that_all_others_wait_for() -> None:
    built = {name: service["build"] for name, service in SERVICES.items() if "build" in service}
    assert built == {"migrate": {"context": ".", "dockerfile": "docker/Dockerfile"}}, "two that build one tag collide"


@each
def test_nothing_waits_for_what_has_only_begun(name: str) -> None:
    needs = SERVICES[name].get("depends_on", {})
    for other, how in needs.items():
        wanted = "service_completed_successfully" if other == "migrate" else "service_healthy"
        assert how == {"condition": wanted}
    if name in PLATFORM:
        assert set(needs) == ({"timescaledb"} if name == "migrate" else {"migrate", *STORES})


def test_only_the_web_is_published_and_on_loopback() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if service.get("ports")}
    assert {name for name in published if "profiles" not in SERVICES[name]} == {"web"}
    assert published.pop("web") == ["127.0.0.1:8000:8000"]
    assert published.pop("grafana") == ["127.0.0.1:3000:3000"]
    assert published == {"caddy": ["80:8080", "443:8443"]}
    assert not any("expose" in service for service in SERVICES.values())


def test_with_https_only_the_proxy_is_published() -> None:
    text = (ROOT / "docker" / "https.yml").read_text(encoding="utf-8")
    over = compose.load(ROOT / "docker" / "https.yml")
    assert "ports: !reset []" in text and set(over["services"]) == {"web"}
    assert over["services"]["web"]["environment"] == {"TRUSTED_PROXIES": "1"}
    assert SERVICES["web"]["environment"]["TRUSTED_PROXIES"] == "0"


def test_the_proxys_configuration_is_valid() -> None:
    environment = {"DOMAIN": SERVICES["caddy"]["environment"]["DOMAIN"], "HOME": "/tmp"}
    command = [tool("caddy"), "validate", "--config", str(ROOT / "docker" / "Caddyfile"), "--adapter", "caddyfile"]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 0 and "Valid configuration" in found.stdout + found.stderr, found.stderr
    adapted = subprocess.run(
        [*command[:1], "adapt", *command[2:]], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    servers = json.loads(adapted.stdout)["apps"]["http"]["servers"].values()
    ports = {port.rsplit(":", 1)[1] for server in servers for port in server["listen"]}
    published = {port.rsplit(":", 1)[1] for port in SERVICES["caddy"]["ports"]}
    assert ports - {"8081"} | {"8080"} == published, "8080 is where it sends browsers on to https, by itself"


def test_flower_is_published_on_loopback_by_its_own_file_only() -> None:
    over = compose.load(ROOT / "docker" / "flower.yml")
    assert over["services"]["flower"]["ports"] == ["127.0.0.1:5555:5555"]
    assert over["services"]["flower"]["networks"] == ["front"], "`back` twice is refused by some versions of Compose"
    assert "ports" not in SERVICES["flower"]


def test_database_and_redis_cannot_be_reached_from_the_front() -> None:
    assert LOADED["networks"]["back"] == {"internal": True}
    for name in STORES:
        assert SERVICES[name]["networks"] == ["back"]
    front = {name for name, service in SERVICES.items() if "front" in service["networks"]}
    assert front == {"web", "caddy"} and SERVICES["caddy"]["networks"] == ["front"]
    assert SERVICES["grafana"]["networks"] == ["watch"]
    out = {name for name, service in SERVICES.items() if "out" in service["networks"]}
    assert out == {"streamer-binance", "streamer-alpaca", "worker", "worker-history", "worker-backfill"}


def test_with_servers_of_ones_own_every_process_has_a_way_out_and_the_stores_have_none() -> None:
    more = compose.load(ROOT / "docker" / "external.yml")["services"]
    ways = {name for name, options in LOADED["networks"].items() if not options.get("internal")}
    for name, service in SERVICES.items():
        own, added = set(service["networks"]), set(more.get(name, {}).get("networks", []))
        assert not own & added, "Compose appends lists, and may refuse one that names a network twice"
        if name in PLATFORM:
            assert (own | added) & ways, name
            assert not added or not own & ways, f"{name} has a way out of its own"
    assert all(set(service) == {"networks"} for service in more.values()) and not set(more) & set(STORES)


def test_every_process_is_told_of_another_broker_and_the_web_of_a_replica() -> None:
    told = {name for name in PLATFORM if SERVICES[name]["environment"]["CELERY_BROKER_URL_FILE"]}
    assert told == set(PLATFORM) - {"migrate"}
    assert {name for name in PLATFORM if "DATABASE_READ_URL_FILE" in SERVICES[name]["environment"]} == {"web"}


@each
def test_every_name_in_an_environment_is_a_setting(name: str) -> None:
    settings = {field.upper() for field in Settings.model_fields}
    for variable in SERVICES[name].get("environment", {}):
        if name in PLATFORM:
            assert variable.removesuffix("_FILE") in settings, f"{name}: {variable}"
        else:
            assert FOREIGN.fullmatch(variable), f"{name}: {variable}"


@each
def test_secrets_are_files_and_each_has_only_its_own(name: str) -> None:
    service = SERVICES[name]
    granted = set(service.get("secrets", []))
    files = {
        value.removeprefix("/run/secrets/")
        for variable, value in service.get("environment", {}).items()
        if variable.endswith("_FILE") and value
    }
    assert granted <= set(LOADED["secrets"])
    files |= {"redis": {"redis_auth"}, "prometheus": {"api_token"}}.get(name, set())  # named by a configuration
    assert granted == files, "a secret that is not used"
    for variable, value in service.get("environment", {}).items():
        secret = re.search(r"PASSWORD|SECRET|TOKEN|_KEY|DATABASE_(READ_)?URL|REDIS_URL|BROKER", variable)
        if secret and not variable.endswith("_FILE"):
            assert value in {"", None} or variable == "API_READS_NEED_TOKEN", f"{name}: {variable} holds a value"
    assert "://" not in str(service.get("command", "")) and "@" not in str(service.get("environment", ""))


def test_every_file_that_is_mounted_exists() -> None:
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            source, target, *mode = volume.split(":")
            if source.startswith("."):
                assert mode == ["ro"], f"{name}: {volume}"
                assert (ROOT / source).exists(), f"{name}: {source} is not there"
            else:
                assert source in LOADED["volumes"] and target.startswith("/")
    assert all(secret["file"].startswith("./docker/secrets/") for secret in LOADED["secrets"].values())


def test_configurations_name_the_secrets_that_they_are_handed() -> None:
    docker = ROOT / "docker"
    jobs = yaml.safe_load((docker / "monitoring/prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    closed = {job["job_name"]: job["authorization"] for job in jobs if "authorization" in job}
    assert closed == {"web": {"credentials_file": "/run/secrets/api_token"}}
    assert "\ninclude /run/secrets/redis_auth\n" in (docker / "redis.conf").read_text(encoding="utf-8")


def test_the_databases_disk_is_watched() -> None:
    (volume,) = SERVICES["timescaledb"]["volumes"]
    name = volume.split(":")[0]
    assert SERVICES["web"]["volumes"] == [f"{name}:/disks/{name}:ro"]
    assert SERVICES["web"]["environment"]["DISK_PATHS"] == f"/disks/{name}"
    other = compose.load(DISK_PATHS="/disks/database,/data")["services"]["web"]["environment"]
    assert other["DISK_PATHS"] == "/disks/database,/data"


def test_the_commands_are_those_that_up_starts(tmp_path: Path) -> None:
    settings = Settings(
        market="live", alpaca_api_key="k", alpaca_secret_key="s", data_dir=tmp_path, flower_port=5555, _env_file=None
    )
    run = Run(1, 0.0, "http://w", "http://f", "", "", "", "", "", "live")
    table = {spec.name: list(spec.argv[1:]) for spec in process_table(settings, run, run_dir=tmp_path)}
    table["worker"] = table.pop("worker-bars")
    places = {
        str(tmp_path / "beat" / "schedule"): "/data/schedule",
        f"--db={tmp_path / 'flower' / 'state'}": "--db=/data/flower",
        f"--conf={ROOT / 'app' / 'local' / 'flower_conf.py'}": "--conf=app/local/flower_conf.py",
        "--address=127.0.0.1": "--address=0.0.0.0",
    }
    ours = {name: SERVICES[name]["command"][1:] for name in PLATFORM if name != "migrate"}
    assert ours == {
        name: [places.get(word, word).replace(f"{ROOT}/", "") for word in argv] for name, argv in table.items()
    }
    assert all(SERVICES[name]["command"][0] == "python" for name in PLATFORM)


def test_every_process_serves_its_metrics_where_prometheus_asks() -> None:
    for name in PLATFORM:
        environment = SERVICES[name]["environment"]
        assert environment["PROCESS_NAME"] == name and environment["METRICS_DIR"] == "/tmp/metrics"
        assert environment["METRICS_PORT"] == ("" if name in {"migrate", "web", "flower"} else "9100")
    # Its job `worker` asks every address of that name.
    for name in ("worker-history", "worker-backfill"):
        assert SERVICES[name]["networks"]["back"] == {"aliases": ["worker"]}
