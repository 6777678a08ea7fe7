"""The files of docker/monitoring against what is really exported, the manual, and Prometheus's own checker."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import sqlalchemy as sa
import yaml
from prometheus_client.parser import text_string_to_metric_families

from app.cache import health
from app.config import ROOT, Settings
from app.domain.bars import State
from app.domain.timeframes import MINUTE_MS
from app.metrics import recorded
from app.services.clock import wall_us
from app.storage import catalog
from tests.integration.web_data import bar, store
from tests.monitoring.rulebook import ALERTS, FOLDER, family, panels, quicker, rules, used
from tests.tools import tool
from webapp import create_app

HERE = Path(__file__).parent
PROMETHEUS = {"le", "job", "instance"}  # labels that Prometheus itself gives


@pytest.fixture(scope="module")
def exported(settings: Settings, engine: sa.Engine) -> Iterator[str]:
    """A scrape of a web process in which everything has happened once."""
    client = redis.Redis.from_url(settings.redis_url)
    client.flushdb()
    minute = wall_us() // 60_000_000 * MINUTE_MS
    with engine.begin() as conn:
        btc = catalog.find(conn, "BTC/USDT", "binance")
    store(engine, [bar(btc.id, minute - n * MINUTE_MS, state=State.VERIFIED) for n in range(20, 25)])
    beat = {"exchange": "binance", "feed": "connected", "since": 1, "lag_ms": 1, "trades": 1, "reconnects": 1}
    health.beat(client, "streamer-binance", {**beat, "buffered": 1})
    health.beat(client, "up", {"children": {"web": {"state": "ready"}}})
    recorded.begin_tasks(["tasks.bars.ingest"])
    recorded.task_ended("tasks.bars.ingest", "success", seconds=0.1)
    recorded.batch_committed("binance", rows=1, accepted=1, queued_s=0.1, lag_s=0.1)
    recorded.chart_looked_up(hit=True)
    recorded.socket_opened("/ws")
    app = create_app(settings.model_copy(update={"market": "live"}))
    app.test_client().get("/api/health/live")
    yield app.test_client().get("/metrics").text
    recorded.socket_closed("/ws")
    app.extensions["web"].engine.dispose()
    client.close()


def kinds_and_labels(text: str) -> tuple[dict[str, str], dict[str, set[str]]]:
    """Exported name → type, and → labels; a counter's name ends with `_total`."""
    kinds, labels = {}, {}
    for found in text_string_to_metric_families(text):
        name = f"{found.name}_total" if found.type == "counter" else found.name
        kinds[name] = found.type
        labels[name] = {label for sample in found.samples for label in sample.labels} - {"le"}
        assert found.samples, f"{name} has no sample here: give it one"
    return kinds, labels


def test_rules_and_dashboard_ask_only_for_what_is_exported(exported: str) -> None:
    kinds, labels = kinds_and_labels(exported)
    looks = list(used())
    assert len(looks) > 50
    for look in looks:
        there = set(PROMETHEUS)
        for sample, picked in look.samples.items():
            name = family(sample, kinds)
            assert name in kinds, f"{look.where} asks for {sample}, which nobody exports"
            assert kinds[name] != "histogram" or sample != name, f"{look.where}: {sample} is a histogram"
            there |= labels[name]
            assert picked <= there, f"{look.where}: {sample} has no label {picked - there}"
        assert look.labels <= there, f"{look.where}: no label {look.labels - there}"


def test_the_manual_has_every_metric_and_the_reverse(exported: str) -> None:
    kinds, labels = kinds_and_labels(exported)
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    part = text.split("\n## Metrics\n", 1)[1].split("\n## ", 1)[0]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \| [^|]+ \|$", part, re.MULTILINE)
    told = {name: (kind, set(re.findall(r"`(\w+)`", named))) for name, kind, named in rows}
    ours = {name: (kind, labels[name]) for name, kind in kinds.items() if name.startswith("market_")}
    assert told == ours
    assert all(f"`{name}`" in part for name in kinds)


def test_every_alert_says_what_it_means_and_what_to_do() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    part = text.split("\n## Alerts\n", 1)[1].split("\n## ", 1)[0]
    titles = re.findall(r"^### (\w+)$", part, re.MULTILINE)
    names = [rule["alert"] for rule in rules()]
    assert sorted(titles) == sorted(names) and len(set(names)) == len(names)
    for rule in rules():
        said = rule["annotations"]
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert said["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
        assert len(said["summary"]) > 20 and len(said["description"]) > 60


def test_panels_lie_side_by_side_and_each_says_what_it_shows() -> None:
    taken: set[tuple[int, int]] = set()
    shown = panels()
    assert len({panel["id"] for panel in shown}) == len(shown)
    for panel in shown:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not taken & cells, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["description"] and panel["fieldConfig"]["defaults"]["unit"]
            assert all(target["legendFormat"] for target in panel["targets"])
    provider = yaml.safe_load((FOLDER / "grafana/provisioning/dashboards/market.yml").read_text(encoding="utf-8"))
    source = yaml.safe_load((FOLDER / "grafana/provisioning/datasources/prometheus.yml").read_text(encoding="utf-8"))
    assert provider["providers"][0]["options"]["path"] == "/var/lib/grafana/dashboards"
    assert {panel["datasource"]["uid"] for panel in shown if "datasource" in panel} == {source["datasources"][0]["uid"]}


def promtool(*arguments: object, text: str | None = None) -> str:
    done = subprocess.run(
        [tool("promtool"), *map(str, arguments)], input=text, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_prometheus_takes_the_files(tmp_path: Path) -> None:
    text = (FOLDER / "prometheus.yml").read_text(encoding="utf-8")
    token, config = tmp_path / "api_token", tmp_path / "prometheus.yml"
    assert "/run/secrets/api_token" in text
    token.touch()
    config.write_text(text.replace("/run/secrets/api_token", str(token)), encoding="utf-8")
    (tmp_path / "alerts.yml").write_text(ALERTS.read_text(encoding="utf-8"), encoding="utf-8")
    said = promtool("check", "config", config)
    assert f"{len(rules())} rules found" in said
    hurried = tmp_path / "quicker.yml"
    hurried.write_text(quicker(ALERTS.read_text(encoding="utf-8")), encoding="utf-8")
    promtool("check", "rules", hurried)
    assert "* 60" not in hurried.read_text(encoding="utf-8") and "for: 2s" in hurried.read_text(encoding="utf-8")


def test_names_and_types_are_as_prometheus_wants_them(exported: str) -> None:
    assert promtool("check", "metrics", text=exported) == ""


def test_every_rule_fires_and_clears_on_series_made_up_for_it() -> None:
    promtool("test", "rules", HERE / "rules.yml")
    cases = yaml.safe_load((HERE / "rules.yml").read_text(encoding="utf-8"))["tests"]
    assert {case["name"] for case in cases} == {rule["alert"] for rule in rules()}
    for case in cases:
        looks = [bool(look["exp_samples"]) for look in case["promql_expr_test"]]
        assert looks == [False, True, False], case["name"]
        assert all(case["name"] in look["expr"] for look in case["promql_expr_test"])
