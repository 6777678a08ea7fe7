"""What the web process lets in and what it says to those it does not: tokens, origins, limits, headers, errors."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest
import redis
from flask import Flask, Response
from flask.testing import FlaskClient
from pydantic import SecretStr

from app.config import Settings
from app.errors import ConfigError
from app.local.redis import RedisServer
from webapp import create_app, offline

TOKEN = "a-token-of-the-tests-0123456789"
SECRET = "a secret of the tests that is long enough, 0123456789"
Make = Callable[..., FlaskClient]


@pytest.fixture
def make(settings: Settings) -> Iterator[Make]:
    """Makes a client of an application with other settings; /api/kept takes writes, /api/broken breaks."""
    apps: list[Flask] = []

    def built(**changes: Any) -> FlaskClient:
        secrets = {name: SecretStr(changes.pop(name)) for name in ("api_token", "jwt_secret") if name in changes}
        app = create_app(settings.model_copy(update={**secrets, **changes}))
        app.add_url_rule("/api/kept", "kept", lambda: Response("kept"), methods=["GET", "POST", "DELETE"])
        app.add_url_rule("/api/broken", "broken", _broken)
        app.add_url_rule("/broken", "broken_page", _broken)
        apps.append(app)
        return app.test_client()

    yield built
    for app in apps:
        app.extensions["web"].engine.dispose()
        app.extensions["web"].redis.close()


def _broken() -> str:
    raise ValueError("/srv/inside/secret.py line 3")


def _signed(secret: str = SECRET, *, algorithm: str = "HS256", **claims: Any) -> str:
    return jwt.encode(claims, secret, algorithm=algorithm)


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _status(client: FlaskClient, path: str) -> int:
    with client.get(path) as answer:  # a file is open until then
        return answer.status_code


def test_without_a_secret_nothing_is_written_and_everybody_reads(make: Make) -> None:
    client = make()
    refused = client.post("/api/kept")
    assert refused.status_code == 403
    assert refused.get_json()["error"]["code"] == "writes_disabled"
    assert "API_TOKEN" in refused.get_json()["error"]["message"]
    assert client.get("/api/kept").status_code == 200


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "token_missing"),
        ({"Authorization": "Basic dXNlcjpwdw=="}, "token_missing"),
        ({"Authorization": "Bearer "}, "token_missing"),
        ({"Authorization": "Bearer wrong-but-long-enough-9999"}, "token_wrong"),
        ({"Authorization": f"Bearer {TOKEN}x"}, "token_wrong"),
        ({"Authorization": "Bearer " + "x" * 5000}, "token_wrong"),
    ],
)
def test_a_write_needs_the_token(make: Make, headers: dict[str, str], code: str) -> None:
    client = make(api_token=TOKEN)
    refused = client.post("/api/kept", headers=headers)
    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"].startswith("Bearer realm=")
    assert refused.get_json()["error"]["code"] == code
    given = headers.get("Authorization", "").removeprefix("Bearer ").strip()
    assert not given or given not in refused.text, "a token is never said back"
    assert client.post("/api/kept", headers=_bearer(TOKEN)).status_code == 200


def test_a_jwt_lets_in_until_it_expires(make: Make) -> None:
    client, now_s = make(jwt_secret=SECRET), int(time.time())
    assert client.delete("/api/kept", headers=_bearer(_signed(exp=now_s + 60, aud="anybody"))).status_code == 200
    for token, code in (
        (_signed(exp=now_s - 60), "token_expired"),
        (_signed(sub="for ever"), "token_wrong"),
        (_signed("another secret that is long enough, 01234567", exp=now_s + 60), "token_wrong"),
        (_signed(SECRET + SECRET, algorithm="HS512", exp=now_s + 60), "token_wrong"),
        (jwt.encode({"exp": now_s + 60}, "", algorithm="none"), "token_wrong"),
        ("not.a.jwt", "token_wrong"),
        (_signed(exp="soon"), "token_wrong"),
    ):
        refused = client.delete("/api/kept", headers=_bearer(token))
        assert (refused.status_code, refused.get_json()["error"]["code"]) == (401, code), token


def test_another_algorithm_of_the_same_secret_is_refused(make: Make) -> None:
    token = _signed(SECRET * 2, algorithm="HS512", exp=int(time.time()) + 60)
    assert make(jwt_secret=SECRET * 2).post("/api/kept", headers=_bearer(token)).status_code == 401


def test_an_address_nobody_serves_stays_unknown(make: Make) -> None:
    client = make(api_token=TOKEN)
    assert client.post("/api/nothing").status_code == 404
    refused = client.post("/api/symbols")
    assert refused.status_code == 405
    assert "GET" in refused.headers["Allow"]


def test_reads_may_need_a_token_too(make: Make) -> None:
    client = make(api_token=TOKEN, api_reads_need_token=True)
    for path in ("/api/symbols", "/api/health", "/udf/config", "/api/charts/BTC-USDT"):
        assert client.get(path).status_code == 401, path
        assert client.get(path, headers=_bearer(TOKEN)).status_code == 200, path
    page = client.get("/")
    assert page.status_code == 200
    assert "data-reads-need-token" in page.text
    for path in ("/static/js/api.js", "/sw.js", "/offline", "/favicon.ico"):
        assert _status(client, path) == 200, path
    assert client.get("/nowhere").status_code == 404
    assert client.get("/api/symbols?token=" + TOKEN).status_code == 401, "only sockets take it in the address"
    assert "data-reads-need-token" not in make(api_token=TOKEN).get("/").text


def test_with_reads_closed_no_page_tells_what_there_is(make: Make) -> None:
    assert "BTC/USDT" in make(api_token=TOKEN).get("/charts/binance/BTC-USD").text
    closed = make(api_token=TOKEN, api_reads_need_token=True)
    there, nowhere = closed.get("/charts/binance/BTC-USDT"), closed.get("/charts/binance/BTC-USDX")
    assert there.status_code == nowhere.status_code == 200
    assert there.text == nowhere.text.replace("USDX", "USDT")
    for symbol in ("btc-usdt", "btc-usdx"):
        moved = closed.get(f"/charts/binance/{symbol}?tf=5m")
        assert (moved.status_code, moved.headers["Location"]) == (308, f"/charts/binance/{symbol.upper()}?tf=5m")
    for address in ("/charts/alpaca/AAPL", "/charts/alpaca/NONE", "/charts/yahoo/THYAO.IS", "/charts/yahoo/A-B-C"):
        assert closed.get(address).status_code == 200, address
    for address in ("/charts/nowhere/AAPL", "/charts/alpaca/A%00"):
        assert closed.get(address).status_code == 404, address


def test_the_document_says_where_a_token_is_needed(make: Make) -> None:
    for reads in (False, True):
        client = make(api_token=TOKEN, api_reads_need_token=reads)
        paths = client.get("/api/openapi.json", headers=_bearer(TOKEN)).get_json()["paths"]
        for path, operations in paths.items():
            needed = reads and path not in ("/api/health/live", "/api/docs", "/api/openapi.json")
            for method, operation in operations.items():
                assert ("401" in operation["responses"]) == ("security" in operation) == (needed or method != "get")


def test_closed_reads_without_a_token_to_ask_for_are_a_mistake(make: Make) -> None:
    with pytest.raises(ConfigError, match="API_TOKEN or JWT_SECRET"):
        make(api_reads_need_token=True)


def test_only_listed_origins_are_told_they_may(make: Make) -> None:
    client = make(cors_origins="https://charts.example.org, http://localhost:3000", api_token=TOKEN)
    listed, other = {"Origin": "https://charts.example.org"}, {"Origin": "https://evil.example.org"}
    assert client.get("/udf/config", headers=listed).headers["Access-Control-Allow-Origin"] == listed["Origin"]
    assert "Access-Control-Allow-Origin" not in client.get("/udf/config", headers=other).headers
    asked = {**listed, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    answer = client.options("/api/kept", headers=asked)
    assert answer.status_code == 200
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    assert answer.headers["Access-Control-Allow-Headers"].lower() == "authorization"
    assert "Access-Control-Allow-Credentials" not in answer.headers
    refused = client.post("/api/kept", headers=listed)
    assert refused.status_code == 401
    assert refused.headers["Access-Control-Allow-Origin"] == listed["Origin"], "a page may read why it was refused"
    assert "Access-Control-Allow-Origin" not in client.get("/", headers=listed).headers
    assert "Access-Control-Allow-Origin" not in make().get("/udf/config", headers=listed).headers


def test_too_many_requests_wait(make: Make, redis_client: redis.Redis) -> None:
    client = make(rate_limit_reads="5/minute", rate_limit_writes="2/minute", api_token=TOKEN)
    assert [client.get("/api/kept").status_code for _ in range(6)] == [200] * 5 + [429]
    refused = client.get("/api/kept")
    assert refused.get_json()["error"]["code"] == "too_many_requests"
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert [client.post("/api/kept").status_code for _ in range(3)] == [401, 401, 429], "guesses count too"
    assert _status(client, "/static/js/api.js") == 200
    page = client.get("/")
    assert page.status_code == 429
    assert "Too many requests" in page.text
    assert client.get("/udf/config").get_json()["s"] == "error"
    assert client.get("/api/kept", environ_base={"REMOTE_ADDR": "10.0.0.9"}).status_code == 200, "each address its own"
    elsewhere = {"environ_base": {"REMOTE_ADDR": "10.0.0.8"}}
    looked = [client.get(f"/nowhere/{n}", **elsewhere).status_code for n in range(6)]
    assert looked == [404] * 5 + [429], "what has no route counts too"
    assert all(key.startswith(b"requests") for key in redis_client.scan_iter())


def test_counting_goes_on_without_redis(make: Make, own_redis: RedisServer) -> None:
    client = make(redis_url=own_redis.url, rate_limit_reads="3/minute")
    assert client.get("/api/kept").status_code == 200
    own_redis.stop()
    began = time.monotonic()
    assert [client.get("/api/kept").status_code for _ in range(4)] == [200] * 3 + [429]
    assert time.monotonic() - began < 10
    assert client.get("/api/kept").headers["Retry-After"]


def test_a_redis_that_hangs_holds_nobody_up(make: Make, own_redis: RedisServer) -> None:
    client = make(redis_url=own_redis.url, rate_limit_reads="1000/minute")
    assert client.get("/api/kept").status_code == 200
    assert own_redis.process is not None
    own_redis.process.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert [client.get("/api/kept").status_code for _ in range(100)] == [200] * 100
        assert time.monotonic() - began < 15, "0.2 s for the first, and for one of them a second, not for each"
    finally:
        own_redis.process.send_signal(signal.SIGCONT)


def test_an_address_is_the_proxys_word_only_where_it_is_trusted(make: Make, redis_client: redis.Redis) -> None:
    direct = make(rate_limit_reads="1/minute")
    assert direct.get("/api/kept", headers={"X-Forwarded-For": "1.1.1.1"}).status_code == 200
    assert direct.get("/api/kept", headers={"X-Forwarded-For": "2.2.2.2"}).status_code == 429
    redis_client.flushdb()
    behind = make(rate_limit_reads="1/minute", trusted_proxies=1)
    assert behind.get("/api/kept", headers={"X-Forwarded-For": "9.9.9.9, 1.1.1.1"}).status_code == 200
    assert behind.get("/api/kept", headers={"X-Forwarded-For": "8.8.8.8, 1.1.1.1"}).status_code == 429
    assert behind.get("/api/kept", headers={"X-Forwarded-For": "1.1.1.1, 2.2.2.2"}).status_code == 200


def test_every_answer_has_the_headers(make: Make) -> None:
    client = make(trusted_proxies=1)
    for path in ("/", "/nowhere", "/api/symbols", "/api/nothing", "/api/broken", "/static/js/api.js", "/udf/config"):
        with client.get(path) as answer:
            headers = answer.headers
        policy = headers["Content-Security-Policy"]
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "geolocation=()" in headers["Permissions-Policy"]
        assert "Strict-Transport-Security" not in headers
    assert "Strict-Transport-Security" in client.get("/", headers={"X-Forwarded-Proto": "https"}).headers


def test_no_inside_is_shown(make: Make) -> None:
    client = make()
    for path in ("/api/broken", "/broken"):
        answer = client.get(path)
        assert answer.status_code == 500
        assert "secret.py" not in answer.text
        assert "Traceback" not in answer.text
        assert "ValueError" not in answer.text
    assert 'data-error-code="500"' in client.get("/broken").text


def test_a_large_body_is_not_taken(make: Make) -> None:
    client = make(api_token=TOKEN, max_body_bytes=2048)
    answer = client.post("/api/kept", data=b"x" * 4096, headers=_bearer(TOKEN))
    assert answer.status_code == 413
    assert answer.get_json()["error"]["code"] == "too_large"
    assert client.post("/api/kept", data=b"x" * 1024, headers=_bearer(TOKEN)).status_code == 200


def test_an_unknown_chart_suggests_what_is_near(make: Make) -> None:
    client = make()
    page = client.get("/charts/binance/BTC-USD")
    assert page.status_code == 404
    assert "Did you mean" in page.text
    assert 'href="/charts/binance/BTC-USDT"' in page.text
    assert page.text.index("/charts/binance/BTC-USDT") < page.text.index("/charts/binance/BNB-USDT")
    assert "/charts/alpaca/AAPL" in client.get("/charts/alpaca/APPL").text
    assert "/charts/yahoo/THYAO.IS" in client.get("/charts/nowhere/THYAO").text
    assert "Did you mean" not in client.get("/charts/binance/%00").text
    assert "Did you mean" not in client.get("/nothing").text


def test_away_is_a_page_that_tries_again(make: Make) -> None:
    client = make(database_url="postgresql+psycopg2://nobody@127.0.0.1:1/none")
    page = client.get("/charts/binance/BTC-USDT")
    assert page.status_code == 503
    assert page.headers["Retry-After"] == "2"
    assert 'id="waiting"' in page.text
    assert client.get("/udf/history?symbol=BTC-USDT&resolution=1").get_json()["s"] == "error"


def test_the_worker_changes_with_what_it_keeps(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    client = make()
    first = client.get("/sw.js")
    assert first.mimetype == "text/javascript"
    assert first.headers["Cache-Control"] == "no-cache"
    assert client.get("/sw.js").text == first.text
    for path in ("/offline", *(f"/static/{name}" for name in offline.KEPT)):
        assert _status(client, path) == 200
        assert f'"{path}"' in first.text, "the worker keeps it by this address"
    monkeypatch.setattr("webapp.offline.KEPT", ("js/api.js",))
    assert client.get("/sw.js").text != first.text
