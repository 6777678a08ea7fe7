"""Which failures of the database are waited for, by the codes of PostgreSQL's documentation."""

from __future__ import annotations

import psycopg2
import psycopg2.errors
import pytest
import sqlalchemy as sa

from app.storage.trouble import Trouble, trouble_of
from webapp.errors import describe

KINDS = {
    Trouble.AWAY: (
        "57P01 57P02 57P03 57P05"  # shut down, crashed, starting, ended for being idle
        " 53000 53100 53200 53300"  # resources, disk, memory, connections
        " 08000 08001 08003 08004 08006 58030"  # connections, and an error of its disk
    ),
    Trouble.READ_ONLY: "25006",
    Trouble.NEIGHBOUR: "40001 40P01 55P03 25P03",  # serialization, deadlock, lock timeout, idle in its transaction
    Trouble.SLOW: "57014 25P04",  # a statement's timeout, a transaction's
    None: "22012 23502 23505 25P02 42501 42601 42P01 XX000",
}


def failed(code: str) -> sa.exc.DBAPIError:
    """A statement's failure as SQLAlchemy raises it."""
    error = type("Told", (psycopg2.errors.lookup(code),), {"pgcode": code})("told by the server")
    found = sa.exc.DBAPIError.instance("SELECT 1", {}, error, psycopg2.Error)
    assert isinstance(found, sa.exc.DBAPIError)
    return found


@pytest.mark.parametrize(("kind", "code"), [(kind, code) for kind, codes in KINDS.items() for code in codes.split()])
def test_a_code_says_whether_waiting_helps(kind: Trouble | None, code: str) -> None:
    assert trouble_of(failed(code)) is kind


def test_a_client_is_told_that_reads_go_on() -> None:
    assert describe(failed("25006")) == (
        503, "unavailable", "the database takes no writes at present; try again in a moment",
    )  # fmt: skip
