"""What a failure of the database means for who asked: to wait, to begin again, or that the question was too big."""

from __future__ import annotations

from enum import StrEnum

import sqlalchemy as sa

# Deadlock, serialization, lock timeout, idle in transaction: the same transaction may succeed at once.
_NEIGHBOURS = {"40P01", "40001", "55P03", "25P03"}
_UNDEFINED = {"42703", "42P01", "42883"}  # column, table, function
_CUT_SHORT = {"57014", "25P04"}  # by the statement's timeout, or by one of the transaction that a server may set
_READ_ONLY = "25006"


class Trouble(StrEnum):
    """The kinds of failure that are no defect of ours; the values say it in a log's words."""

    AWAY = "the database does not serve"
    NEIGHBOUR = "others were in its way"
    SLOW = "a statement ran out of time"
    READ_ONLY = "the database takes no writes"
    OLD = "the schema is older than this program"


def trouble_of(error: BaseException) -> Trouble | None:
    """The kind of a failure; None for what waiting cannot cure: a defect, or data the database refuses.

    A server that stops, starts, recovers, or has no connection, memory or disk left is away, and so is a pool without
    a free one. One that only reads is a primary that was demoted, or one that its provider saves from a full disk.
    """
    if isinstance(error, sa.exc.TimeoutError):
        return Trouble.AWAY
    if not isinstance(error, sa.exc.DBAPIError):
        return None
    code = getattr(error.orig, "pgcode", None)
    if code in _NEIGHBOURS:
        return Trouble.NEIGHBOUR
    if code in _CUT_SHORT:
        return Trouble.SLOW
    if takes_no_writes(error.orig):
        return Trouble.READ_ONLY
    gone = isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError) or error.connection_invalidated
    return Trouble.AWAY if gone else None


def takes_no_writes(error: BaseException | None) -> bool:
    """Whether the driver's error says so: then another connection may reach a server that takes them, this one not."""
    return getattr(error, "pgcode", None) == _READ_ONLY


def may_be_old(error: BaseException) -> bool:
    """Whether the failure is of a table or column that is not there: as of a schema that is not upgraded yet."""
    return getattr(getattr(error, "orig", None), "pgcode", None) in _UNDEFINED


def reason(error: BaseException) -> str:
    """The failure in one line, in the server's own words where it had any."""
    text = str(getattr(error, "orig", None) or error).strip()
    return text.splitlines()[0] if text else type(error).__name__
