"""The settings of the platform: the one module that reads the environment.

Every value comes from the environment, then `.env`, then the default below. A secret may be given as a
file: `BINANCE_API_SECRET_FILE=/run/secrets/binance` reads the value from there.
"""

from __future__ import annotations

import os
import platform
import re
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings import PydanticBaseSettingsSource as Source

from app.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent

Market = Literal["sandbox", "live"]

LEAST_SECRET_BYTES = {"api_token": 16, "jwt_secret": 32, "flower_password": 8}  # HS256: as long as its hash
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.\-]+(:\d{1,5})?|https?://\[[0-9a-fA-F:]+\](:\d{1,5})?")
_SOURCES = ("binance_api", "binance_stream", "alpaca_api", "alpaca_stream", "alpaca_trading", "yahoo_api")
_RATE = re.compile(r"[1-9]\d{0,8}/(second|minute|hour)")


class Settings(BaseSettings):
    """All settings, validated; units are in the names."""

    model_config = SettingsConfigDict(
        env_file=ROOT / ".env", extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    # Where things are. Empty URLs mean: the embedded servers of DATA_DIR.
    data_dir: Path = ROOT / ".data"
    database_url: str = ""
    database_read_url: str = ""  # a streaming replica that the web reads from
    redis_url: str = ""
    celery_broker_url: str = ""
    log_dir: Path = ROOT / "logs"
    metrics_dir: Path | None = None  # where this machine's processes keep their metrics; DATA_DIR/metrics
    log_level: str = "INFO"
    log_format: Literal["text", "json"] = "text"
    log_console: bool = True  # `up` turns it off for its children: their files have it
    log_files: bool = True
    process_instance: str = Field("", pattern=r"^[A-Za-z0-9_.\-]*$", description="tells processes of one name apart")
    log_repeats: int = Field(5, ge=0, description="a warning said more often in the time below is counted instead")
    log_repeats_s: float = Field(60.0, gt=0)
    log_file_mb: int = Field(50, ge=1, description="a longer log file is put away before midnight")
    log_total_mb: int = Field(1000, ge=1, description="of LOG_DIR's old files, the newest are kept")
    process_name: str = ""  # set by `up`: names the child's log file and its heartbeat
    ready_file: Path | None = None  # set by `up`: a child makes this file once it serves

    disk_paths: str = ""  # folders whose disks are watched, comma separated; DATA_DIR

    # What listens where.
    web_host: str = "127.0.0.1"
    web_port: int = Field(8000, ge=0, le=65535)
    flower_port: int = Field(5555, ge=0, le=65535)
    flower_user: str = Field("admin", pattern=r"^[^\s:,]+$")
    flower_password: SecretStr = SecretStr("")  # empty: `up` makes one in DATA_DIR
    flower_url: str = Field("", pattern=r"^(https?://[^\s@]+)?$", description="where browsers reach Flower")
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(0, ge=0, le=65535, description="every process but the web serves its metrics there")
    sandbox_host: str = "127.0.0.1"
    sandbox_port: int = Field(8010, ge=0, le=65535)

    # The market: simulated on loopback, or the exchanges themselves.
    market: Market = "sandbox"
    binance_api_url: str = "https://api.binance.com"
    binance_stream_url: str = "wss://stream.binance.com:9443"
    binance_api_key: str = ""
    binance_api_secret: SecretStr = SecretStr("")
    alpaca_api_url: str = "https://data.alpaca.markets"
    alpaca_stream_url: str = "wss://stream.data.alpaca.markets"
    alpaca_api_key: str = ""
    alpaca_secret_key: SecretStr = SecretStr("")
    alpaca_feed: Literal["iex", "sip"] = "iex"
    alpaca_trading_url: str = "https://paper-api.alpaca.markets"  # its list of assets
    extended_hours: bool = False  # keep prints of US stocks outside 09:30 to 16:00 New York time
    yahoo_api_url: str = "https://query2.finance.yahoo.com"
    yahoo_poll_s: float = Field(300.0, ge=10, description="exchange time between two polls of a session")

    # Requests an exchange allows us in a minute, over all processes of the platform.
    binance_weight_per_minute: int = Field(1200, ge=1)
    alpaca_requests_per_minute: int = Field(180, ge=1)
    yahoo_requests_per_minute: int = Field(60, ge=1)

    # The simulated market.
    sandbox_speed: float = Field(1.0, gt=0, description="exchange seconds per wall second")
    sandbox_history_hours: int = Field(72, ge=1, le=24 * 400)
    sandbox_seed: int = 7
    sandbox_start: str = ""  # exchange time (ISO 8601, UTC) it begins at; empty: now
    sandbox_since: float = 0.0  # set by `up`: wall time (s) it began at, so that a restarted one goes on from there
    sandbox_trades_per_second: float = Field(4.0, gt=0, le=5000)

    # Live ingestion.
    flush_interval_ms: int = Field(100, ge=5, le=5000)
    flush_trades: int = Field(5000, ge=1, le=50_000)
    stream_buffer_trades: int = Field(500_000, ge=1000, description="held while the broker is away")
    stream_silence_s: float = Field(30.0, gt=0, description="no trade for so long: replace the connection")
    stream_max_age_s: float = Field(84_600.0, gt=0, description="a connection is replaced before the exchange ends it")
    trade_shards: int = Field(1, ge=1, le=64)
    stream_shards: int = Field(1, ge=1, le=64, description="streamers of Binance, each of a part of the symbols")

    # Bars.
    grace_s: float = Field(2.0, ge=0, description="exchange time a minute stays open after its end")
    import_idle_s: float = Field(2.0, ge=0, description="an imported minute closes after so long unwritten")
    feed_wait_s: float = Field(10.0, gt=0, description="longest a missing batch may hold a feed's clock")
    flat_days: int = Field(7, ge=1, description="longest proven quiet stretch that is filled with flat bars")
    ledger_fragments: int = Field(1000, ge=1, description="a stream's ledger in more pieces is reported")
    start_backfill_hours: int = Field(72, ge=0, description="history fetched for an instrument without any")
    start_daily_days: int = Field(400, ge=0, description="daily bars fetched for a stock without any")
    verify_after_s: float = Field(20.0, ge=0, description="a closed bar without the exchange's word is asked for")
    quiet_check_s: float = Field(900.0, ge=60, description="quiet minutes of US stocks are checked so often")
    outage_s: float = Field(15.0, gt=0, description="wall time a feed may stand still before its minutes are a hole")

    # Database and cache. The web process answers many at once: it has a pool and a patience of its own.
    db_pool_size: int = Field(2, ge=2, description="a lock is held, and a name looked up, beside a transaction")
    db_pool_overflow: int = Field(0, ge=0)
    db_web_pool_size: int = Field(5, ge=1)
    db_web_pool_overflow: int = Field(5, ge=0)
    db_pool_timeout_s: float = Field(10.0, gt=0)
    db_statement_timeout_ms: int = Field(30_000, ge=0)
    db_web_statement_timeout_ms: int = Field(10_000, ge=0)
    db_lock_timeout_ms: int = Field(10_000, ge=0)
    db_idle_tx_timeout_ms: int = Field(5_000, ge=0)
    chart_ttl_s: int = Field(3600, ge=1)
    chart_bars: int = Field(1000, ge=1, le=5000)
    chart_memory_mb: int = Field(64, ge=0)

    # How many days bars are kept; 0: for ever, as everything of the simulated market is.
    retention_days_1m: int = Field(365, ge=0, le=36_500)
    retention_days_5m: int = Field(365, ge=0, le=36_500)
    retention_days_15m: int = Field(365, ge=0, le=36_500)
    retention_days_1h: int = Field(365, ge=0, le=36_500)
    retention_days_4h: int = Field(0, ge=0, le=36_500)
    retention_days_1d: int = Field(0, ge=0, le=36_500)

    # Celery.
    visibility_timeout_s: int = Field(60, ge=2)
    max_deliveries: int = Field(5, ge=1, description="a message that came more often is parked")

    # Web.
    web_workers: int = Field(1, ge=1, le=64, description="processes that serve the web, on one port")
    ws_queue: int = Field(256, ge=2, description="updates held for one slow client before it is skipped")
    ws_coalesce_ms: int = Field(100, ge=0)
    ws_ping_s: float = Field(20.0, gt=0)
    ws_per_client: int = Field(50, ge=1, description="sockets one address may hold at a time")

    # Who may use the API, and how much of it.
    api_token: SecretStr = SecretStr("")
    jwt_secret: SecretStr = SecretStr("")
    api_reads_need_token: bool = False
    cors_origins: str = ""  # exact origins, comma separated
    rate_limit_reads: str = "1200/minute"  # of one address; "off" for none
    rate_limit_writes: str = "60/minute"
    trusted_proxies: int = Field(0, ge=0, le=10, description="proxies whose X-Forwarded-… headers are believed")
    max_body_bytes: int = Field(65_536, ge=1024, le=2**26)
    request_timeout_s: float = Field(30.0, gt=0, description="longest a request may take; sockets are none")
    ws_sockets: int = Field(3000, ge=1, le=100_000, description="further ones are refused with 1013")
    ws_channels: int = Field(1000, ge=1, le=10_000, description="a socket of /ws may have so many")
    ws_initial_bars: int = Field(100_000, ge=1, description="bars that one subscription's `initial` may have in all")
    ws_message_bytes: int = Field(65_536, ge=128, le=1 << 20, description="a longer message closes with 1009")
    ws_messages_per_s: float = Field(20.0, gt=0, description="further messages of a socket wait to be read")

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: Source, env_settings: Source, dotenv_settings: Source,
        file_secret_settings: Source,
    ) -> tuple[Source, ...]:  # fmt: skip
        """Where values come from, the first one first: a file that the environment names goes before `.env`, too."""

        def dotenv() -> dict[str, Any]:
            found = dotenv_settings().items()
            return {name: value for name, value in found if not os.environ.get(f"{name.upper()}_FILE")}

        return init_settings, env_settings, dotenv  # type: ignore[return-value]  # it is called, no more

    @model_validator(mode="before")
    @classmethod
    def _read_secret_files(cls, values: dict[str, Any]) -> dict[str, Any]:
        for name in cls.model_fields:
            path = os.environ.get(f"{name.upper()}_FILE") or values.get(f"{name}_file")  # what is in .env, too
            if path and not values.get(name):
                try:
                    values[name] = Path(path).read_text(encoding="utf-8").strip()
                except OSError as error:
                    raise ValueError(f"{name.upper()}_FILE={path}: {error.strerror}") from error
        return values

    @field_validator("data_dir", "log_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().resolve()

    @field_validator("process_instance")
    @classmethod
    def _of_this_machine(cls, value: str) -> str:
        return platform.node() if value == "auto" else value

    @field_validator("metrics_dir")
    @classmethod
    def _absolute_or_none(cls, value: Path | None) -> Path | None:
        return value and value.expanduser().resolve()

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, value: str) -> str:
        level = value.upper()
        if level not in {"TRACE", "DEBUG", "INFO", "WARNING", "ERROR"}:
            raise ValueError("use TRACE, DEBUG, INFO, WARNING or ERROR")
        return level

    @field_validator("api_token", "jwt_secret", "flower_password")
    @classmethod
    def _long_enough(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        least = LEAST_SECRET_BYTES[info.field_name or ""]
        if value.get_secret_value() and len(value.get_secret_value().encode()) < least:
            raise ValueError(
                f"too short to be safe: use at least {least} bytes, "
                "as of python -c 'import secrets; print(secrets.token_urlsafe(32))'"
            )
        return value

    @field_validator("flower_password")
    @classmethod
    def _one_word(cls, value: SecretStr) -> SecretStr:
        if "," in value.get_secret_value():
            raise ValueError("Flower parts its users at commas: use another password")
        return value

    @field_validator("sandbox_start")
    @classmethod
    def _a_moment(cls, value: str) -> str:
        try:
            datetime.fromisoformat(value or "2026-01-01")
        except ValueError:
            raise ValueError(f"{value!r} is no time: write it as 2026-11-23T14:25, in UTC") from None
        return value

    @field_validator(*(f"{source}_url" for source in _SOURCES))
    @classmethod
    def _an_address(cls, value: str, info: ValidationInfo) -> str:
        schemes = ("ws", "wss") if "stream" in (info.field_name or "") else ("http", "https")
        if not re.fullmatch(rf"({'|'.join(schemes)})://[^\s/]+(/\S*)?", value):
            raise ValueError(f"{value!r} is no address that begins with {schemes[0]}:// or {schemes[1]}://")
        return value.rstrip("/")

    @field_validator("cors_origins")
    @classmethod
    def _exact_origins(cls, value: str) -> str:
        for origin in value.split(","):
            if origin.strip() and not _ORIGIN.fullmatch(origin.strip()):
                raise ValueError(
                    f"{origin.strip()!r} is no exact origin: write it as https://charts.example.org:8443; "
                    "* is not taken, since it would open the API to every page a user visits"
                )
        return value

    @field_validator("rate_limit_reads", "rate_limit_writes")
    @classmethod
    def _known_rate(cls, value: str) -> str:
        rate = value.strip().lower()
        if rate != "off" and not _RATE.fullmatch(rate):
            raise ValueError(f"{value!r} is no rate: use 1200/minute, 20/second, 5000/hour or off")
        return rate

    def named(self, process: str) -> str:
        """The name `process` has in `system:health`: with `@instance` where several have it."""
        return f"{process}@{self.process_instance}" if self.process_instance else process

    @property
    def origins(self) -> tuple[str, ...]:
        """The origins that may use the API from a browser, besides the platform's own."""
        return tuple(origin.strip().lower() for origin in self.cors_origins.split(",") if origin.strip())

    @property
    def broker_url(self) -> str:
        """The broker's URL: `CELERY_BROKER_URL`, by default the Redis of the platform."""
        return self.celery_broker_url or self.redis_url

    @property
    def metrics_folder(self) -> Path:
        """Where this machine's processes keep their metrics."""
        return self.metrics_dir or self.data_dir / "metrics"

    @property
    def watched_disks(self) -> tuple[Path, ...]:
        """The folders whose disks are watched."""
        return tuple(Path(path.strip()) for path in self.disk_paths.split(",") if path.strip()) or (self.data_dir,)

    @property
    def db_connections(self) -> int:
        """Connections to the database that one process may hold at most; the web process has its own number."""
        return self.db_pool_size + self.db_pool_overflow

    @property
    def db_web_connections(self) -> int:
        """Connections to the database that the web process may hold at most."""
        return self.db_web_pool_size + self.db_web_pool_overflow

    @property
    def keep_days(self) -> dict[str, int | None]:
        """How many days the bars of each timeframe are kept, None for ever."""
        prefix = "retention_days_"
        names = [name for name in type(self).model_fields if name.startswith(prefix)]
        live = self.market == "live"
        return {name.removeprefix(prefix): getattr(self, name) or None if live else None for name in names}

    @property
    def alpaca_keys(self) -> tuple[str, str] | None:
        """Alpaca's (key, secret): a made-up pair for the simulated market; None where the real one lacks them."""
        key, secret = self.alpaca_api_key, self.alpaca_secret_key.get_secret_value()
        if key and secret:
            return key, secret
        return ("sandbox", "sandbox") if self.market == "sandbox" else None


def load_settings(**overrides: Any) -> Settings:  # Any: pydantic checks each value against its field
    """The settings from environment and `.env`; raises ConfigError naming each bad variable."""
    try:
        return Settings(**overrides)
    except ValidationError as error:
        lines = []
        for item in error.errors():
            name = ".".join(str(part) for part in item["loc"]).upper()
            text = item["msg"].removeprefix("Value error, ")
            lines.append(f"{name}: {text}" if name else text)
        raise ConfigError("; ".join(lines)) from error
