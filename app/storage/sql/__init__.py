"""SQL that matters, as named blocks of `.sql` files beside this module."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

import sqlalchemy as sa

from app.domain.timeframes import Timeframe

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@cache
def _blocks(file: str) -> dict[str, str]:
    text = resources.files(__name__).joinpath(f"{file}.sql").read_text(encoding="utf-8")
    parts = _NAME.split(text)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


@cache
def sql(file: str, name: str, tf: Timeframe | None = None) -> sa.TextClause:
    """The block `name` of `file`; `{tf}`, `{below}` and `{length}` stand for a timeframe's tables and length."""
    text = _blocks(file)[name]
    if tf is not None:
        below = tf.below
        text = text.replace("{tf}", tf.value).replace("{length}", f"{tf.minutes} minutes")
        text = text.replace("{below}", below.value if below else "").replace("{minutes}", str(tf.minutes))
        text = text.replace("{children}", str(tf.minutes // below.minutes if below else 1))
    return sa.text(text)
