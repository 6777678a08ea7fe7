"""Whether the user's own Redis and broker can be used: asked before anything starts, with a clear word where not."""

from __future__ import annotations

import socket
from collections.abc import Callable

import redis
from amqp.exceptions import AccessRefused, AMQPError, NotAllowed
from kombu.exceptions import KombuError

from app.cache.addresses import connect, sentinels
from app.cache.broker import SETTING, is_amqp
from app.cache.queue_lengths import amqp_connection
from app.config import Settings
from app.errors import ConfigError
from app.local.report import without_password

WAIT_S = 3.0


def check_brokers(settings: Settings, *, say: Callable[[str], None]) -> None:
    """Raises ConfigError where `REDIS_URL` or `CELERY_BROKER_URL` leads to no server that can be used."""
    if settings.broker_url:  # each worker asks this, too, and would end
        is_amqp(settings.broker_url, setting=SETTING if settings.celery_broker_url else "REDIS_URL")
    if settings.redis_url:
        _check_redis(settings.redis_url, "REDIS_URL", say=say, broker=not settings.celery_broker_url)
    url = settings.celery_broker_url
    if not url or url == settings.redis_url:
        return
    if is_amqp(url):
        _check_amqp(url)
        say(f"[green]✓[/] broker: RabbitMQ at {without_password(url)}")
    else:
        _check_redis(url, SETTING, say=say, broker=True)


def _check_redis(url: str, setting: str, *, say: Callable[[str], None], broker: bool) -> None:
    shown = without_password(url)
    client = connect(url, setting=setting, socket_timeout=WAIT_S, socket_connect_timeout=WAIT_S)
    try:
        client.ping()
        if int(client.info("cluster").get("cluster_enabled", 0)):
            raise ConfigError(
                f"{setting}: the server at {shown} is part of a Redis Cluster, which Celery cannot use: queues span "
                "keys of several slots; use one server, or one watched by Sentinels"
            )
        policy = str(client.info("memory").get("maxmemory_policy", "noeviction"))
    except redis.AuthenticationError as error:
        raise ConfigError(f"{setting}: {shown} refuses this user or password ({_first_line(error)})") from None
    except redis.sentinel.MasterNotFoundError:
        found = sentinels(url, setting=setting)
        name = found.master if found else ""
        raise ConfigError(
            f"{setting}: no Sentinel of {shown} answers and knows a master {name!r}: are host, port, the name and the "
            "Sentinels' own password (sentinel_password) right?"
        ) from None
    except redis.RedisError as error:
        raise ConfigError(f"{setting}: {shown} cannot be reached ({_first_line(error)}): is it running?") from None
    finally:
        client.close()
    if broker and policy != "noeviction":
        say(f"[yellow]![/] {setting}: maxmemory-policy is {policy}: a full Redis would drop messages; set noeviction")


def _check_amqp(url: str) -> None:
    shown, connection = without_password(url), amqp_connection(url)
    vhost = connection.virtual_host or "/"
    try:
        connection.connect()
    except AccessRefused as error:
        raise ConfigError(f"{SETTING}: {shown} refuses this user or password ({_first_line(error)})") from None
    except NotAllowed:
        raise ConfigError(
            f"{SETTING}: {shown}: there is no vhost {vhost!r}, or the user may not use it: "
            f"rabbitmqctl add_vhost {vhost}; rabbitmqctl set_permissions -p {vhost} USER '.*' '.*' '.*'"
        ) from None
    except socket.gaierror as error:
        raise ConfigError(f"{SETTING}: {shown}: no such host ({error.strerror})") from None
    except (AMQPError, KombuError, OSError) as error:
        raise ConfigError(f"{SETTING}: {shown} cannot be reached ({_first_line(error)}): is it running?") from None
    finally:
        connection.release()


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
