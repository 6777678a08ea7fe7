"""docs/sql.md as the tests read it: its queries and their tables, and how a query is run as if it were NOW."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from app.config import ROOT
from tests.sql_market import NOW

PAGE = ROOT / "docs" / "sql.md"
SHOWN = 6  # rows of a result in the page

# The queries ask for now(). A function of that name which is found before the server's own answers for it.
FREEZE = f"""
CREATE SCHEMA frozen;
CREATE FUNCTION frozen.now() RETURNS timestamptz LANGUAGE sql STABLE AS $$ SELECT timestamptz '{NOW}' $$;
GRANT USAGE ON SCHEMA frozen TO PUBLIC
"""
FROZEN = "SET LOCAL search_path = frozen, pg_catalog, public"


@dataclass(frozen=True)
class Query:
    """A query of the page: its heading, its text, and the table that stands below it."""

    title: str
    text: str
    shown: str


@dataclass(frozen=True)
class Result:
    """What a query gave."""

    columns: list[str]
    rows: list[tuple[Any, ...]]

    def table(self) -> str:
        """The first rows as the page shows them."""
        lines = [" | ".join(map(_cell, row)) for row in (self.columns, *self.rows[:SHOWN])]
        lines = [f"| {line} |" for line in lines]
        more = "" if len(self.rows) <= SHOWN else f"\n\n… {len(self.rows)} rows."
        return "\n".join([lines[0], "|" + "---|" * len(self.columns), *lines[1:]]) + more


def queries() -> list[Query]:
    """The queries, in the page's order."""
    found = []
    for section in re.split(r"^### ", _page().split("\n## Queries\n")[1], flags=re.MULTILINE)[1:]:
        title, rest = section.split("\n", 1)
        blocks = re.findall(r"```sql\n(.*?)```\n\n(\|.*?\|(?:\n\n… \d+ rows\.)?)\n(?:\n|\Z)", rest, re.DOTALL)
        assert len(blocks) == section.count("```sql") == 1, f"one query with its table under {title!r}"
        found.append(Query(title, *blocks[0]))
    return found


def role() -> list[str]:
    """The statements that make the role which may only read, and those that remove it."""
    section = _page().split("\n### A role that may only read\n")[1].split("\n## ")[0]
    made, gone = re.findall(r"```sql\n(.*?)```|`(DROP OWNED BY .*?)`", section, re.DOTALL)
    return [made[0], gone[1]]


def python() -> str:
    """The example for Python."""
    return _page().split("```python\n")[1].split("```")[0]


def columns(view: str) -> dict[str, str]:
    """Column → the last cell of its row, of the table under the view's heading."""
    section = _page().split(f"\n### {view}\n")[1].split("\n### ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
    return {name: row[-1].strip() for row in rows for name in re.findall(r"`(\w+)`", row[0])}


def run(connection: sa.Connection, query: Query, *, zone: str = "UTC") -> Result:
    """What the query says at NOW, in a session of that time zone."""
    connection.exec_driver_sql(FROZEN)
    connection.exec_driver_sql(f"SET LOCAL timezone = '{zone}'")
    result = connection.exec_driver_sql(query.text)
    return Result(list(result.keys()), [tuple(row) for row in result])


def named(query: Query) -> set[str]:
    """The tables of bars and indicators behind the views and the timeframe that the query names."""
    timeframe = re.findall(r"timeframe = '(\w+)'", query.text)
    views = re.findall(r"(?:FROM|JOIN) (candles|indicators)\b", query.text)
    return {f"{view}_{tf}" for view in views for tf in timeframe} or {"candles_1m"}


def tables(connection: sa.Connection, query: Query) -> set[str]:
    """The tables of bars and indicators that the query's plan touches."""
    plan = "\n".join(connection.exec_driver_sql(f"EXPLAIN {query.text}").scalars())
    return set(re.findall(r"\b(?:candles|indicators)_(?:1m|5m|15m|1h|4h|1d)\b", plan))


def _page() -> str:
    return PAGE.read_text(encoding="utf-8")


def _cell(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M")
    return "" if value is None else str(value)


def differences(got: Sequence[tuple[Any, ...]], want: Sequence[tuple[Any, ...]]) -> list[str]:
    """Where two results differ, in words."""
    found = [f"{len(got)} rows instead of {len(want)}"] if len(got) != len(want) else []
    pairs = zip(got, want, strict=False)
    return found + [f"row {i}: {row} instead of {right}" for i, (row, right) in enumerate(pairs) if row != right]
