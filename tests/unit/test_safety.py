"""Settings of the API's safety, origins, the policy's hash, trading hours in words, the token of a data directory."""

from __future__ import annotations

import base64
import hashlib
import stat
import subprocess
import sys
from pathlib import Path

import jwt
import pytest
from typer.testing import CliRunner

from app.cli.main import app as cli
from app.config import ROOT, Settings, load_settings
from app.domain.hours import trading_hours
from app.domain.instruments import Exchange, Instrument
from app.domain.sessions import Session
from app.domain.timeframes import DAY_MS
from app.errors import ConfigError
from app.local.flower import with_flower_password
from app.local.processes import process_table
from app.local.report import address_table
from app.local.token import with_token
from tests.unit.test_processes import run_of
from webapp.limits import allowed
from webapp.security import CHART_LIBRARY, style_hashes
from webapp.suggestions import ranked

HOUR_MS = 3_600_000


def _settings(folder: Path, **values: str) -> Settings:
    return load_settings(data_dir=folder, _env_file=None, **values)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("api_token", "sesame-9"),
        ("jwt_secret", "x" * 31),
        ("cors_origins", "*"),
        ("cors_origins", "https://good.example.org,https://*.example.org"),
        ("cors_origins", "https://example.org/path"),
        ("cors_origins", "example.org"),
        ("cors_origins", "null"),
        ("rate_limit_reads", "0/minute"),
        ("rate_limit_writes", "many"),
        ("rate_limit_writes", "5/fortnight"),
        ("sandbox_start", "tomorrow"),
        ("binance_api_url", "api.binance.com"),
        ("alpaca_stream_url", "https://stream.data.alpaca.markets"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name.upper()) as caught:
        _settings(tmp_path, **{name: value})
    assert "Value error" not in str(caught.value)
    if name in ("api_token", "jwt_secret"):
        assert value not in str(caught.value)
        assert value not in str(caught.value.__cause__), "nor in what a log would show of it"


def test_a_secret_may_stand_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret, env = tmp_path / "jwt", tmp_path / "env"
    secret.write_text("x" * 40 + "\n")
    env.write_text(f"JWT_SECRET_FILE={secret}\n")
    assert load_settings(_env_file=env).jwt_secret.get_secret_value() == "x" * 40
    monkeypatch.setenv("API_TOKEN_FILE", str(secret))
    assert _settings(tmp_path).api_token.get_secret_value() == "x" * 40
    monkeypatch.setenv("API_TOKEN_FILE", "/nowhere/token")
    with pytest.raises(ConfigError, match=r"^API_TOKEN_FILE=/nowhere/token: No such file"):
        _settings(tmp_path)


def test_a_file_that_the_environment_names_goes_before_what_is_in_env(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def token() -> str:
        return load_settings(_env_file=env).api_token.get_secret_value()

    fresh, env = tmp_path / "token", tmp_path / "env"
    fresh.write_text("f" * 40 + "\n")
    env.write_text(f"API_TOKEN={'o' * 40}\nJWT_SECRET_FILE={fresh}\nJWT_SECRET={'j' * 40}\n")
    assert token() == "o" * 40
    monkeypatch.setenv("API_TOKEN_FILE", str(fresh))
    assert token() == "f" * 40, "the environment goes before .env"
    assert load_settings(_env_file=env).jwt_secret.get_secret_value() == "j" * 40
    monkeypatch.setenv("API_TOKEN", "e" * 40)
    assert token() == "e" * 40
    assert load_settings(_env_file=env, api_token="i" * 40).api_token.get_secret_value() == "i" * 40
    monkeypatch.delenv("API_TOKEN")
    fresh.unlink()
    with pytest.raises(ConfigError, match=f"^API_TOKEN_FILE={fresh}: No such file"):
        token()


def test_origins_are_a_list(tmp_path: Path) -> None:
    found = _settings(tmp_path, cors_origins="https://A.example.org, http://localhost:3000,,http://[::1]:8080").origins
    assert found == ("https://a.example.org", "http://localhost:3000", "http://[::1]:8080")


@pytest.mark.parametrize(
    ("origin", "host", "may"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1:8000", True),
        ("https://market.example.org", "market.example.org", True),
        ("https://market.example.org", "market.example.org:443", True),
        ("http://market.example.org:80", "market.example.org", True),
        ("http://[::1]:8000", "[::1]:8000", True),
        ("https://listed.example.org", "market.example.org", True),
        ("https://listed.example.org:444", "market.example.org", False),
        ("http://listed.example.org", "market.example.org", False),
        ("http://127.0.0.1:9000", "127.0.0.1:8000", False),
        ("http://127.0.0.1.evil.org:8000", "127.0.0.1:8000", False),
        ("null", "127.0.0.1:8000", False),
        ("", "127.0.0.1:8000", False),
        ("http://x:99999999", "x", False),
    ],
)
def test_pages_of_our_own_host_and_of_listed_origins_may_connect(origin: str, host: str, may: bool) -> None:
    assert allowed(origin, host, ("https://listed.example.org",)) is may


def test_the_attribution_style_is_found_in_the_library() -> None:
    (found,) = style_hashes(CHART_LIBRARY)
    text = CHART_LIBRARY.read_text(encoding="utf-8")
    style = text[text.index("a#tv-attr-logo{") : text.index("}", text.index("a#tv-attr-logo[data-dark]")) + 1]
    assert found == f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'"
    assert style_hashes(ROOT / "nowhere.js") == []


def test_hours_are_the_usual_ones_and_what_differs() -> None:
    monday = 1_795_392_000_000 // DAY_MS * DAY_MS
    monday -= ((monday // DAY_MS + 3) % 7) * DAY_MS
    days = [day for day in range(12) if day % 7 < 5 and day != 2]
    stored = [
        Session(
            monday + day * DAY_MS,
            monday + day * DAY_MS + 7 * HOUR_MS,
            monday + day * DAY_MS + (15 - day // 11) * HOUR_MS,
        )
        for day in days
    ]
    hours = trading_hours("XIST", stored)
    assert (hours.zone, hours.session) == ("Europe/Istanbul", "0940-1810")
    assert len(hours.holidays) == 1
    assert [text.partition(":")[0] for text in hours.corrections] == ["0940-1710"]
    assert trading_hours("24/7", []).session == "24x7"
    assert trading_hours("XNYS", []).session == "0000-0000"


def test_hours_follow_summer_time() -> None:
    july, january = 1_783_296_000_000, 1_767_571_200_000
    stored = [
        Session(january, january + 14 * HOUR_MS + HOUR_MS // 2, january + 21 * HOUR_MS),
        Session(july, july + 13 * HOUR_MS + HOUR_MS // 2, july + 20 * HOUR_MS),
    ]
    hours = trading_hours("XNYS", stored)
    assert hours.session == "0930-1600"
    assert hours.corrections == ()
    assert trading_hours("XNYS", stored, extended=True).session == "0400-2000"


def _instrument(exchange: Exchange, symbol: str) -> Instrument:
    return Instrument(1, exchange, symbol, symbol, "stock", "USD", "24/7", True, 2)


def test_near_symbols_are_ranked() -> None:
    known = [_instrument(Exchange.BINANCE, f"{base}/USDT") for base in ("BTC", "ETH", "BNB")]
    known += [_instrument(Exchange.ALPACA, symbol) for symbol in ("AAPL", "AMZN")]
    assert ranked("BTC-USD", "binance", known)[0].symbol == "BTC/USDT"
    assert ranked("APPL", "alpaca", known)[0].symbol == "AAPL"
    assert ranked("btc", "nowhere", known)[0].symbol == "BTC/USDT"
    assert ranked("\x00", "binance", known) == []
    assert ranked("Z" * 5000, "binance", known) == []


def test_up_makes_a_token_once_and_keeps_it(tmp_path: Path) -> None:
    settings = with_token(_settings(tmp_path))
    token, path = settings.api_token.get_secret_value(), tmp_path / "api-token"
    assert len(token) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert with_token(_settings(tmp_path)).api_token.get_secret_value() == token
    assert f"in {path} (writes need it)" in address_table(settings, run_of(settings), seconds=1)
    assert token not in address_table(settings, run_of(settings), seconds=1)
    table = {spec.name: spec for spec in process_table(settings, run_of(settings), run_dir=tmp_path)}
    assert table["web"].env["API_TOKEN"] == token
    assert not any(token in " ".join(spec.argv) for spec in table.values())
    assert [name for name, spec in table.items() if "API_TOKEN" in spec.env] == ["web"]


def test_up_makes_a_password_for_flower_and_shows_it_to_nobody(tmp_path: Path) -> None:
    settings = with_flower_password(_settings(tmp_path, api_token="a-token-of-the-user"))
    password, path = settings.flower_password.get_secret_value(), tmp_path / "flower-password"
    assert len(password) >= 32 and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert with_flower_password(_settings(tmp_path)).flower_password.get_secret_value() == password
    shown = address_table(settings, run_of(settings), seconds=1)
    assert f"(user admin, password in {path})" in shown and password not in shown
    table = {spec.name: spec for spec in process_table(settings, run_of(settings), run_dir=tmp_path)}
    assert table["flower"].env["FLOWER_PASSWORD"] == password
    assert "--address=127.0.0.1" in table["flower"].argv
    assert not any(password in " ".join(spec.argv) for spec in table.values())
    assert [name for name, spec in table.items() if "FLOWER_PASSWORD" in spec.env] == ["flower"]
    own = with_flower_password(_settings(tmp_path, flower_user="me", flower_password="a-password-of-mine"))
    assert "(user me, password FLOWER_PASSWORD)" in address_table(own, run_of(own), seconds=1)
    for bad in ("with,comma-1", "short"):
        with pytest.raises(ConfigError, match="FLOWER_PASSWORD"):
            _settings(tmp_path, flower_password=bad)


def test_flower_does_not_start_open_to_everybody() -> None:
    conf = str(ROOT / "app" / "local" / "flower_conf.py")
    refused = subprocess.run(
        [sys.executable, "-c", f"import runpy; runpy.run_path({conf!r})"],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: FLOWER_PASSWORD is not set")


def test_a_token_of_the_users_own_is_taken_as_it_is(tmp_path: Path) -> None:
    for own in ({"api_token": "a-token-of-the-user"}, {"jwt_secret": "a secret of the user, long enough for it"}):
        settings = with_token(_settings(tmp_path, **own))
        assert "API token" not in address_table(settings, run_of(settings), seconds=1)
    assert not (tmp_path / "api-token").exists()


def test_a_broken_token_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "api-token").write_text("short")
    with pytest.raises(ConfigError, match="delete it"):
        with_token(_settings(tmp_path))


def test_the_command_line_signs_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "a secret of the tests, long enough for it"
    monkeypatch.setenv("JWT_SECRET", secret)
    told = CliRunner().invoke(cli, ["token", "--days", "2", "--name", "screener"])
    claims = jwt.decode(told.stdout.strip(), secret, algorithms=["HS256"])
    assert claims["exp"] - claims["iat"] == 2 * 86_400
    assert claims["sub"] == "screener"
    monkeypatch.setenv("JWT_SECRET", "")
    assert isinstance(CliRunner().invoke(cli, ["token"]).exception, ConfigError)
