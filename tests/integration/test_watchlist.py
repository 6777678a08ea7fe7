"""The watchlist at run time: symbols come and go under load, nothing else notices; the exchange's word decides."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import redis
import sqlalchemy as sa
from loguru import logger

from app.cache import health
from app.config import Settings, load_settings
from app.domain.instruments import Exchange
from app.domain.listing import Listing, unasked
from app.errors import BadInput, Forbidden, SourceAway, UnknownInstrument
from app.local.redis import RedisServer
from app.local.servers import free_port
from app.services.watchlist import Watchlist, feed_of, shaped
from app.sources.by_exchange import Sources
from app.sources.listings import Listings
from app.storage import catalog
from tests.processes import Processes, processes, until
from tests.sandbox import start_sandbox

WITHIN_S = 5.0
SIX = ("BTC/USDT", "ETH/USDT", "SOL/USDT", "BNB/USDT", "ADA/USDT", "XRP/USDT")


@pytest.fixture(scope="module")
def run(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """The command line, a worker of trades and a market of some hundred trades a second."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        with start_sandbox(symbols=",".join(SIX), rate=600, history_hours=1) as market:
            urls = {"binance_api_url": market.url, "binance_stream_url": market.stream_url, "redis_url": server.url}
            with processes(settings.model_copy(update=urls)) as found:
                found.worker("trades")
                yield found


@pytest.fixture
def beats(run: Processes) -> Iterator[redis.Redis]:
    """A client of the processes' Redis."""
    client = redis.Redis.from_url(run.environment["REDIS_URL"])
    yield client
    client.close()


@pytest.fixture
def only(engine: sa.Engine) -> None:
    """A watchlist of three."""
    watch(engine, *SIX[:3])


def watch(engine: sa.Engine, *symbols: str) -> None:
    """Sets the watchlist, with nothing stored."""
    with engine.begin() as connection:
        connection.execute(sa.text("TRUNCATE ledger, feeds, feed_batches, touched, coverage, holes, candles_1m"))
        connection.execute(sa.text("UPDATE instruments SET active = symbol = ANY(:symbols)"), {"symbols": [*symbols]})


def ranges(engine: sa.Engine) -> dict[str, list[tuple[int, int]]]:
    """The ledger's ids of each symbol."""
    query = """
        SELECT i.symbol, lower(r) AS lo, upper(r) AS hi FROM ledger l JOIN instruments i ON i.id = l.instrument_id,
        unnest(l.applied) r ORDER BY 1, 2
    """
    found: dict[str, list[tuple[int, int]]] = {}
    with engine.begin() as connection:
        for symbol, lo, hi in connection.execute(sa.text(query)):
            found.setdefault(symbol, []).append((lo, hi))
    return found


def applied(engine: sa.Engine, symbol: str) -> int:
    """How many trades of the symbol are in."""
    return sum(hi - lo for lo, hi in ranges(engine).get(symbol, []))


def streamer(run: Processes, *arguments: str, name: str = "streamer") -> None:
    """Starts a Binance streamer."""
    run.start(name, "-m", "streamers", "binance", *arguments)


def finish(run: Processes, *names: str) -> None:
    """Ends streamers as SIGTERM does; what they hold is handed over."""
    for name in names:
        process = run.running.pop(name)
        process.terminate()
        assert process.wait(60) == 0, run.said()


def settled(run: Processes, engine: sa.Engine) -> dict[str, list[tuple[int, int]]]:
    """The ledger once the queue is empty and it has come to rest."""
    client = redis.Redis.from_url(run.environment["REDIS_URL"])
    until(lambda: not client.llen("trades.0") and not client.hlen("unacked"), what="all batches are in")
    client.close()
    before: dict[str, list[tuple[int, int]]] = {}
    while (now := ranges(engine)) != before:
        before = now
        time.sleep(1)
    return now


@pytest.mark.slow
def test_one_comes_and_one_goes_under_load_and_the_others_lose_no_trade(
    run: Processes, engine: sa.Engine, only: None, beats: redis.Redis
) -> None:
    streamer(run)
    for symbol in SIX[:3]:
        until(lambda symbol=symbol: applied(engine, symbol) > 200, what=symbol)
    started = time.monotonic()
    assert run.cli("instruments", "add", "XRP/USDT").returncode == 0
    said = time.monotonic()
    limit_s = WITHIN_S + 3 * (said - started)  # what the command took tells what the machine can do now
    until(lambda: followed(beats) == 4, seconds=limit_s, every=0.05, what="the new symbol is followed")
    until(lambda: applied(engine, "XRP/USDT"), every=0.05, what="its first trade: a small coin may rest")
    logger.info("command {:.2f} s, first trade {:.2f} s after it", said - started, time.monotonic() - said)
    assert run.cli("instruments", "remove", "ETH/USDT").returncode == 0
    said = time.monotonic()
    until(lambda: followed(beats) == 3, seconds=limit_s, every=0.05, what="the removed symbol is left")
    logger.info("left {:.2f} s after the command", time.monotonic() - said)
    seen = applied(engine, "BTC/USDT")
    until(lambda: applied(engine, "BTC/USDT") > seen + 500)
    facts = health.read(beats)["streamer-binance"]
    assert (facts["reconnects"], facts["runs"], facts["dropped"]) == (0, 1, {})
    finish(run, "streamer")
    last = settled(run, engine)
    assert {symbol: len(pieces) for symbol, pieces in last.items()} == dict.fromkeys(
        ("BTC/USDT", "ETH/USDT", "SOL/USDT", "XRP/USDT"), 1
    )
    with engine.begin() as connection:
        doubts = connection.execute(
            sa.text("SELECT DISTINCT i.symbol, h.cause FROM holes h JOIN instruments i ON i.id = h.instrument_id")
        ).all()
    connected = {(symbol, "connected") for symbol in last}
    assert {tuple(row) for row in doubts} <= {*connected, ("ETH/USDT", "left")}


def followed(beats: redis.Redis) -> int:
    """How many symbols the streamer follows."""
    return int(health.read(beats).get("streamer-binance", {}).get("instruments", 0))


@pytest.mark.timeout(400)
def test_two_shards_follow_each_symbol_once(run: Processes, engine: sa.Engine, beats: redis.Redis) -> None:
    with engine.begin() as connection:
        catalog.add(connection, "binance", "XRP/USDT")
    watch(engine, *SIX)
    for k in (0, 1):
        streamer(run, "--shard", f"{k}/2", name=f"streamer-{k}")
    for symbol in SIX:  # a small coin may rest for most of a minute
        until(lambda symbol=symbol: applied(engine, symbol) > 20, seconds=150, what=symbol)
    until(lambda: {"streamer-binance-0", "streamer-binance-1"} <= health.read(beats).keys())
    shown = health.read(beats)
    finish(run, "streamer-0", "streamer-1")
    with engine.begin() as connection:
        runs = connection.execute(sa.text("SELECT shard, subscribed FROM feeds")).all()
        ids = {item.id for item in catalog.instruments(connection, active_only=True)}
    assert len(ids) == 6
    assert sorted(int(i) for _, subscribed in runs for i in subscribed) == sorted(ids)
    for shard, subscribed in runs:
        assert {int(i) % 2 for i in subscribed} == {int(shard[0])}
    assert {name: beat["shard"] for name, beat in shown.items() if name.startswith("streamer-binance-")} == {
        "streamer-binance-0": "0/2", "streamer-binance-1": "1/2",
    }  # fmt: skip
    assert {symbol: len(pieces) for symbol, pieces in settled(run, engine).items()} == dict.fromkeys(SIX, 1)


def test_the_list_shows_the_feed(run: Processes, engine: sa.Engine, only: None) -> None:
    streamer(run)
    until(lambda: applied(engine, "BTC/USDT"))
    listed = run.cli("instruments", "list", "--all").stdout.splitlines()
    rows = {tuple(line.split()[:2]): line.split()[2:] for line in listed}
    finish(run, "streamer")
    assert rows["exchange", "symbol"] == ["active", "calendar", "feed"]
    assert rows["binance", "BTC/USDT"] == ["yes", "24/7", "connected"]
    assert rows["binance", "ADA/USDT"] == ["no", "24/7", "-"]


def test_what_was_deactivated_is_activated_again(run: Processes, engine: sa.Engine, only: None) -> None:
    for command, active in (("deactivate", False), ("activate", True)):
        done = run.cli("instruments", command, "sol-usdt")
        assert done.returncode == 0, done.stderr
        with engine.begin() as connection:
            assert catalog.find(connection, "SOL/USDT").active is active
    done = run.cli("instruments", "activate", "NO/SUCH")
    assert (done.returncode, done.stderr.startswith("error: unknown symbol 'NO/SUCH'")) == (2, True)


def test_an_exchange_that_is_away_is_named_and_force_does_without(run: Processes, engine: sa.Engine) -> None:
    away = {"BINANCE_API_URL": f"http://127.0.0.1:{free_port()}"}
    kept = dict(run.environment)
    run.environment.update(away)
    try:
        done = run.cli("instruments", "add", "ETH/BTC")
        assert done.returncode == 1
        assert done.stderr == "error: Binance does not answer (ConnectionError); --force adds it unchecked\n"
        done = run.cli("instruments", "add", "ETH/BTC", "--force")
    finally:
        run.environment.clear()
        run.environment.update(kept)
    assert (done.returncode, done.stdout) == (0, "binance ETH/BTC is on the watchlist\n")
    assert done.stderr == "not checked with its exchange: Binance does not answer (ConnectionError)\n"
    with engine.begin() as connection:
        item = catalog.find(connection, "ETH/BTC")
        assert (item.active, item.price_decimals, item.currency) == (True, 8, "BTC")
        catalog.add(connection, "binance", "ETH/BTC", price_decimals=5)
        assert catalog.find(connection, "ETH/BTC").price_decimals == 5


class Limitless:
    """Limits that let everything pass."""

    def spend(self, source: str, weight: int, *, per_minute: int) -> None: ...
    def used(self, source: str, weight: int) -> None: ...
    def rest(self, source: str, seconds: float) -> None: ...
    def failed(self, source: str) -> None: ...
    def answered(self, source: str) -> None: ...


def listings(**options: str) -> Listings:
    """The exchanges of a market, with these settings."""
    settings = load_settings(_env_file=None, **options)
    return Listings(
        Sources(settings, Limitless(), now_us=lambda: 0, count=lambda reason: None, sessions=lambda *asked: [])
    )


@pytest.fixture(scope="module")
def listed_by_sandbox() -> Iterator[Listings]:
    """All three exchanges of a simulated market."""
    with start_sandbox(symbols="BTC/USDT", stocks="AAPL,THYAO.IS", history_hours=1) as market:
        names = ("binance_api_url", "alpaca_api_url", "alpaca_trading_url", "yahoo_api_url")
        yield listings(**dict.fromkeys(names, market.url))


@pytest.mark.parametrize(
    ("exchange", "symbol", "said"),
    [
        (Exchange.BINANCE, "BTC/USDT", ("USDT", "24/7", 2)),
        (Exchange.ALPACA, "AAPL", ("USD", "XNYS", 2)),
        (Exchange.YAHOO, "AAPL", ("USD", "XNYS", 2)),
        (Exchange.YAHOO, "THYAO.IS", ("TRY", "XIST", 2)),
    ],
)
def test_each_exchange_lists_its_symbols(
    exchange: Exchange, symbol: str, said: tuple[str, str, int], listed_by_sandbox: Listings
) -> None:
    """Asked through the vendors' own clients."""
    found = listed_by_sandbox.look(exchange, symbol)
    assert (found.currency, found.calendar, found.price_decimals, found.status) == (*said, "")


@pytest.mark.parametrize(
    ("exchange", "symbol", "word"),
    [
        (Exchange.BINANCE, "NO/SUCH", r"binance lists no NO/SUCH \(.*Invalid symbol"),
        (Exchange.ALPACA, "NOSUCH", "asset not found for NOSUCH"),
        (Exchange.YAHOO, "NOSUCH.IS", "No data found, symbol may be delisted"),
    ],
)
def test_an_unknown_symbol_is_refused_in_the_exchange_s_word(
    exchange: Exchange, symbol: str, word: str, listed_by_sandbox: Listings
) -> None:
    with pytest.raises(UnknownInstrument, match=word):
        listed_by_sandbox.look(exchange, symbol)


def test_without_a_key_alpaca_is_not_asked() -> None:
    with pytest.raises(Forbidden, match="ALPACA_API_KEY"):
        listings(market="live").look(Exchange.ALPACA, "AAPL")


class Hints:
    """Counts what was announced."""

    def __init__(self) -> None:
        self.told = 0

    def __call__(self) -> None:
        """One more."""
        self.told += 1


def listed(exchange: Exchange, symbol: str) -> Listing:
    """An exchange with one stock of its own currency, one that is halted, and one nobody may ask for."""
    match symbol:
        case "HALTED":
            return Listing(exchange, symbol, "USD", "XNYS", 2, "inactive")
        case "KEYLESS":
            raise Forbidden("Alpaca needs ALPACA_API_KEY and ALPACA_SECRET_KEY")
        case "GONE":
            raise UnknownInstrument("Alpaca lists no GONE: asset not found")
        case "AWAY":
            raise SourceAway("Alpaca does not answer")
    return Listing(exchange, symbol, "EUR", "XETR", 3)


@pytest.mark.parametrize(
    ("symbol", "error", "force"),
    [("HALTED", BadInput, True), ("KEYLESS", Forbidden, True), ("AWAY", SourceAway, True),
     ("GONE", UnknownInstrument, False), ("TWO WORDS", BadInput, False)],
)  # fmt: skip
def test_the_exchange_s_word_decides(symbol: str, error: type[Exception], force: bool, engine: sa.Engine) -> None:
    hints = Hints()
    watchlist = Watchlist(engine, catalog, listed, hints)
    with pytest.raises(error) as caught:
        watchlist.add(Exchange.ALPACA, symbol)
    assert symbol in str(caught.value) or error in (Forbidden, SourceAway)
    if symbol == "HALTED":
        assert str(caught.value) == "HALTED is not traded: Alpaca gives its status as 'inactive'"
    assert hints.told == 0
    if not force:
        with pytest.raises(error):
            watchlist.add(Exchange.ALPACA, symbol, force=True)
        return
    added = watchlist.add(Exchange.ALPACA, symbol, force=True)
    assert (added.instrument.active, hints.told) == (True, 1)
    assert bool(added.unchecked) is (symbol != "HALTED")


def test_what_the_exchange_lists_is_stored(engine: sa.Engine) -> None:
    watchlist = Watchlist(engine, catalog, listed, Hints())
    item = watchlist.add(Exchange.YAHOO, "sap.de").instrument
    assert (item.symbol, item.wire_symbol, item.calendar, item.currency, item.price_decimals) == (
        "SAP.DE", "SAP.DE", "XETR", "EUR", 3,
    )  # fmt: skip
    assert watchlist.deactivate("SAP.DE", None).id == item.id
    assert watchlist.activate("SAP.DE", "yahoo").instrument == item
    assert watchlist.add(Exchange.YAHOO, "BRK-B").instrument.symbol == "BRK-B"


def test_symbols_are_written_as_their_exchange_writes_them() -> None:
    assert shaped(Exchange.BINANCE, " btc-usdt ") == "BTC/USDT"
    assert shaped(Exchange.YAHOO, "brk-b") == "BRK-B"
    assert shaped(Exchange.ALPACA, "brk.b") == "BRK.B"
    for exchange, symbol in ((Exchange.BINANCE, "BTCUSDT"), (Exchange.ALPACA, "BTC/USDT"), (Exchange.YAHOO, "")):
        with pytest.raises(BadInput, match="is not a symbol of"):
            shaped(exchange, symbol)
    assert unasked(Exchange.YAHOO, "VOD.L").calendar == "XLON"
    with pytest.raises(BadInput, match=r"\.XYZ"):
        unasked(Exchange.YAHOO, "A.XYZ")


def test_the_feed_is_that_of_the_symbol_s_shard(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        one, two = (catalog.find(connection, symbol) for symbol in ("BTC/USDT", "ETH/USDT"))
        catalog.set_active(connection, one.id, True)
        one = catalog.find(connection, "BTC/USDT")
    own, other = f"{one.id % 2}/2", f"{(one.id + 1) % 2}/2"
    beats = {
        "streamer-binance-1": {"exchange": "binance", "shard": other, "feed": "down", "age_s": 1.0},
        "streamer-binance-0": {"exchange": "binance", "shard": own, "feed": "connected", "age_s": 1.0},
    }
    assert feed_of(one, beats) == "connected"
    beats["streamer-binance-0"]["age_s"] = 60.0
    assert feed_of(one, beats) == "not heard of for 60 s"
    assert feed_of(one, {}) == "no streamer"
    assert two.id % 2 != one.id % 2
