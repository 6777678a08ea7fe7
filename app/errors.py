"""The platform's errors, one tree.

PlatformError
├── ConfigError            a setting is missing or malformed; ends the process with the reason
├── NotRunning             no platform answers for this DATA_DIR
├── AlreadyRunning         another `up` holds this DATA_DIR
├── ServerFailed           an embedded server or child process did not start or keep running
├── BadInput               a user gave something unusable: arguments, a file, a row
│   ├── BadFile            a file cannot be imported; carries file and line
│   ├── BadRange           a date range is empty or reversed
│   ├── NotKept            a stretch begins before what is kept of its timeframe
│   ├── UnknownInstrument  no such symbol (or exchange)
│   ├── UnknownBackfill    no such backfill
│   ├── BackfillOver       a backfill has ended and cannot be ended again
│   └── AmbiguousSymbol    several exchanges have the symbol
├── WireError              bytes from outside are not what the protocol promises
│   └── NewerMessage       a message between our own processes is of a version that this program does not read yet
├── SourceError            an exchange's API refused or failed
│   ├── RateLimited        it asked us to wait; carries the seconds
│   ├── Forbidden          it refuses our key, our subscription, or one connection more; asking again is no use
│   └── SourceAway         it does not answer, or fails for a moment: the same request may succeed later
├── Unavailable            the database (or Redis, where it is needed) cannot be reached
├── SchemaError            the database cannot be given the schema that was asked for
└── Poisoned               a task was delivered too often and is parked
"""

from __future__ import annotations

from datetime import UTC, datetime


class PlatformError(Exception):
    """Base of every error raised on purpose; its text is fit for a user."""


class ConfigError(PlatformError):
    """Raised when a setting is missing or malformed."""


class NotRunning(PlatformError):
    """Raised by a command that needs the running platform when there is none."""


class AlreadyRunning(PlatformError):
    """Raised when another `up` holds the DATA_DIR."""


class ServerFailed(PlatformError):
    """Raised when an embedded server or a child process does not start or keep running."""


class BadInput(PlatformError):
    """Raised for anything a user gave that cannot be used."""


class BadFile(BadInput):
    """Raised for a file, or a row of one, that cannot be imported."""

    def __init__(self, path: str, reason: str, *, line: int | None = None) -> None:
        self.path, self.reason, self.line = path, reason, line
        super().__init__(f"{path}{f', line {line}' if line is not None else ''}: {reason}")


class BadRange(BadInput):
    """Raised when a date range is empty or reversed."""


class NotKept(BadInput):
    """Raised for a stretch that begins before what is kept of its timeframe, and would soon be deleted again.

    `timeframe` is the one that is not kept: the one `asked` for, or one that is made of it.
    """

    def __init__(
        self, what: str, timeframe: str, *, asked: str, start_ms: int, kept_ms: int, option: str = "--keep"
    ) -> None:
        self.what, self.timeframe, self.asked, self.start_ms, self.kept_ms = what, timeframe, asked, start_ms, kept_ms
        start, kept = (f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d}" for ms in (start_ms, kept_ms))
        longer = " and longer" if asked == "1m" else ""
        super().__init__(
            f"{what} begins on {start}, and {timeframe} bars before {kept} are not kept: begin later, or have them "
            f"kept ({option}): all {asked}{longer} bars from {start} on then stay, of every symbol"
        )

    def with_option(self, option: str) -> NotKept:
        """The same, said to somebody who has the bars kept in another way than by the command's option."""
        times = {"start_ms": self.start_ms, "kept_ms": self.kept_ms}
        return NotKept(self.what, self.timeframe, asked=self.asked, option=option, **times)


class UnknownInstrument(BadInput):
    """Raised when no instrument has the given symbol, or the exchange is unknown."""


class UnknownBackfill(BadInput):
    """Raised when no backfill has the given id."""

    def __init__(self, backfill_id: int) -> None:
        super().__init__(f"there is no backfill {backfill_id}")


class BackfillOver(BadInput):
    """Raised when a backfill is to be ended that has ended; carries how."""

    def __init__(self, backfill_id: int, state: str) -> None:
        self.state = state
        super().__init__(f"backfill {backfill_id} is {state}: there is nothing to cancel")


class AmbiguousSymbol(BadInput):
    """Raised when several exchanges have the symbol and none was named."""


class WireError(PlatformError):
    """Raised when bytes from outside are not what the protocol promises."""


class NewerMessage(WireError):
    """Raised for a message of our own that a newer program wrote: one of its workers can read it."""

    def __init__(self, what: str, *, version: object, newest: int) -> None:
        super().__init__(f"{what} of version {version!r}; this worker reads up to {newest}")


class SourceError(PlatformError):
    """Raised when an exchange's API refuses or fails; its text is the exchange's own word."""


class RateLimited(SourceError):
    """Raised when an exchange asks us to wait."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class Forbidden(SourceError):
    """Raised when an exchange refuses our key, a feed we have no subscription for, or one connection more."""


class SourceAway(SourceError):
    """Raised when an exchange's API does not answer or fails by its own fault; asking again later may do."""


class Unavailable(PlatformError):
    """Raised when the database, or Redis where it is needed, cannot be reached."""


class SchemaError(PlatformError):
    """Raised when the database cannot be given the schema, or the hypertables, that were asked for."""


class Poisoned(PlatformError):
    """Raised when a task was delivered too often; its message is parked, not lost."""
