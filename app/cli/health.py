"""`health`: whether one process lives, in one line and an exit code; containers ask it again and again.

It imports little, and `app/__main__.py` comes here without loading the other commands.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.config import Settings

ASK_S = 3.0
DONE, FAILED, UNUSABLE = 0, 1, 2


def main(arguments: list[str]) -> int:
    """0 while the process's heartbeat is fresh (or its URL answers), 1 with the reason, 2 for bad arguments."""
    process = url = ""
    rest = iter(arguments)
    for argument in rest:
        if argument.startswith("--url="):
            url = argument.removeprefix("--url=")
        elif argument == "--url" and (url := next(rest, "")):
            continue
        elif argument.startswith("-") or process:
            print("error: use `python -m app health [PROCESS] [--url=URL]`", file=sys.stderr)
            return UNUSABLE
        else:
            process = argument
    return check(process, url)


def check(process: str, url: str) -> int:
    """The same of parsed arguments."""
    if url:
        return _answered(url)
    from app.config import load_settings
    from app.errors import PlatformError
    from app.local.runfile import attach

    try:
        settings = attach(load_settings())
    except PlatformError as error:
        return _failed(str(error))
    if not (process or settings.process_name):
        return _failed("of which process? Name one that `python -m app status` shows", code=UNUSABLE)
    return _heard(settings, process or settings.named(settings.process_name))


def _heard(settings: Settings, process: str) -> int:
    from redis import RedisError

    from app.cache import health
    from app.cache.addresses import connect
    from app.services.processes import heard, stale_s

    try:
        redis = connect(settings.redis_url, socket_timeout=ASK_S, socket_connect_timeout=ASK_S)
        beat = heard(process, health.read(redis))
    except (RedisError, OSError) as error:
        return _failed(f"Redis cannot be reached, so nothing is heard of {process}: {type(error).__name__}")
    if beat is None:
        return _failed(f"nothing is heard of {process}: it does not run, has not begun its work, or has ended")
    if beat["age_s"] > stale_s(process, beat.get("feed")):
        return _failed(f"{process} has not been heard of for {beat['age_s']:.0f} s")
    print(f"{process} was heard of {beat['age_s']:.0f} s ago")
    return DONE


def _answered(url: str) -> int:
    import urllib.error
    import urllib.request

    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=ASK_S) as answer:
            print(f"{url} answers {answer.status}")
    except urllib.error.HTTPError as error:
        error.close()
        return _failed(f"{url} answers {error.code}")
    except (OSError, ValueError) as error:
        return _failed(f"{url} does not answer: {error}")
    return DONE


def _failed(reason: str, *, code: int = FAILED) -> int:
    print(f"error: {reason}", file=sys.stderr)
    return code
