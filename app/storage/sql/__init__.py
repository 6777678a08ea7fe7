"""SQL that matters, as named blocks of `.sql` files beside this module.

A parameter that stands as `CAST(:name AS timestamptz)` is given in ms and reaches the server as a literal: bounds of
time that are constant when a statement is planned leave the chunks of a hypertable alone that cannot matter.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

import sqlalchemy as sa

from app.domain.timeframes import Timeframe
from app.storage.times import Ms

_TIME = re.compile(r"CAST\(:(\w+) AS timestamptz\)")
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
    return timed(text)


def timed(text: str) -> sa.TextClause:
    """The statement, its points in time given in ms."""
    return sa.text(text).bindparams(*(sa.bindparam(name, type_=Ms()) for name in sorted(set(_TIME.findall(text)))))
