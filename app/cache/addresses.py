"""Where Redis is: one server by `redis://…`, or the master that Sentinels name.

`sentinel://[user:password@]host1:26379,host2:26379/mymaster/0?sentinel_password=…` lists the Sentinels, the name they
know the master by, and the database. User and password are the master's; the Sentinels' own, where they have any, are
`sentinel_username` and `sentinel_password`. Secrets in a URL are percent-encoded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from app.errors import ConfigError

FORM = "sentinel://[user:password@]host1:26379,host2:26379/mymaster/0"
SENTINEL_PORT = 26379
MOST_CONNECTIONS = 2000
# A Sentinel that does not answer in this time is passed over for the next one: so that all of them together take no
# longer than the client would wait for the server, but each has time for an answer of a busy machine.
ASK_S, LEAST_ASK_S = 1.0, 0.25
_ONE = ("redis", "rediss", "unix")
_QUERY = {"sentinel_username", "sentinel_password"}


@dataclass(frozen=True, slots=True)
class Sentinels:
    """A master by its name, and who knows where it is."""

    hosts: tuple[tuple[str, int], ...]
    master: str
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)

    @property
    def login(self) -> dict[str, str]:
        """Options of redis-py and kombu for the Sentinels themselves."""
        pairs = (("username", self.sentinel_username), ("password", self.sentinel_password))
        return {name: value for name, value in pairs if value}

    def celery_url(self) -> str:
        """The URL as Celery's transport takes it: one for each Sentinel; the master's name is an option of its own."""
        user, secret = quote(self.username or "", safe=""), quote(self.password or "", safe="")
        login = f"{user}:{secret}@" if user or secret else ""
        return ";".join(f"sentinel://{login}{_bracketed(host)}:{port}/{self.database}" for host, port in self.hosts)

    def connect(self, **options: Any) -> redis.Redis:
        """A client of whatever server is the master when it connects; `options` as of redis.Redis."""
        patience_s = float(options.get("socket_connect_timeout") or ASK_S * len(self.hosts))
        ask_s = min(ASK_S, max(LEAST_ASK_S, patience_s / len(self.hosts)))
        asking: dict[str, Any] = {"socket_timeout": ask_s, "socket_connect_timeout": ask_s, **self.login}
        found = Sentinel(self.hosts, sentinel_kwargs={**asking, "retry": Retry(NoBackoff(), 0)})
        login = {"username": self.username, "password": self.password}
        return found.master_for(self.master, db=self.database, **login, **options)  # type: ignore[no-any-return]


def sentinels(url: str, *, setting: str = "REDIS_URL") -> Sentinels | None:
    """The Sentinels that `url` names; None for the URL of one server; raises ConfigError for any other, by `setting`.

    The message never has the URL: it may hold passwords.
    """
    scheme = url.split("://", 1)[0].lower() if "://" in url else ""
    if scheme in _ONE:
        return None
    if "cluster" in scheme:
        raise ConfigError(
            f"{setting}: Redis Cluster cannot be used: Celery has no transport for it, since its queues span keys of "
            f"several slots; use one server (redis://…) or one watched by Sentinels ({FORM})"
        )
    if scheme != "sentinel":
        raise ConfigError(f"{setting}: a URL of Redis begins with redis://, rediss://, unix:// or is {FORM}")
    parts = urlsplit(url)
    login, _, places = parts.netloc.rpartition("@")
    user, _, secret = login.partition(":")
    hosts = tuple(_host(place, setting) for place in places.split(",") if place.strip())
    path = parts.path.strip("/").split("/")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if not hosts or not path[0] or len(path) > 2 or not (path[1:] or ["0"])[0].isdigit():
        raise ConfigError(f"{setting}: write it as {FORM}: the Sentinels, the master's name, the database")
    if unknown := sorted(set(query) - _QUERY):
        raise ConfigError(f"{setting}: {', '.join(unknown)} means nothing here; known are {', '.join(sorted(_QUERY))}")
    return Sentinels(
        hosts, unquote(path[0]), int((path[1:] or ["0"])[0]), unquote(user) or None, unquote(secret) or None,
        query.get("sentinel_username") or None, query.get("sentinel_password") or None,
    )  # fmt: skip


def connect(url: str, *, setting: str = "REDIS_URL", **options: Any) -> redis.Redis:
    """A client of the Redis at `url`, a single one or a master behind Sentinels; nothing connects yet."""
    found = sentinels(url, setting=setting)
    # redis-py's own 100 end a request of a busy web process with an error; the server's limit is what counts.
    options.setdefault("max_connections", MOST_CONNECTIONS)
    try:
        return redis.Redis.from_url(url, **options) if found is None else found.connect(**options)
    except ValueError as error:
        raise ConfigError(f"{setting}: {str(error).splitlines()[0]}") from None


def _host(place: str, setting: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{place.strip()}")
        host, port = parts.hostname, parts.port or SENTINEL_PORT
    except ValueError:
        host, port = None, 0
    if not host:
        raise ConfigError(f"{setting}: a Sentinel is host:port, several with commas between: {FORM}")
    return host, port


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
