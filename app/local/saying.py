"""What `up` says: to its log first, then to its console, which may be gone, full or closed without any harm."""

from __future__ import annotations

import os
from contextlib import suppress
from errno import EIO, EPIPE
from typing import IO, Any

from rich.console import Console
from rich.text import Text

from app.logs import logger

GONE = {EIO, EPIPE}  # a terminal that was hung up, a reader that ended: neither comes back


class Lasting:
    """A console's stream to which every write succeeds; the first one that did not is logged.

    It stands below rich, which keeps what it could not write to write it again, and ends the process where a pipe is
    broken. What a full disk did not take is tried anew with the next line.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._told = False

    def write(self, text: str) -> int:
        """Writes what can be written; says that all of it was."""
        try:
            self._stream.write(text)
        except (OSError, ValueError) as error:  # the second: closed, or letters that its encoding does not have
            self._failed(error)
        return len(text)

    def flush(self) -> None:
        """Flushes what can be flushed."""
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._failed(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _failed(self, error: Exception) -> None:
        if not self._told:
            self._told = True
            logger.warning("the console cannot be written to, the log has what is said: {}", error)
        if isinstance(error, OSError) and error.errno in GONE:
            # What its buffer still holds would be written once more as the interpreter ends, and be an error then.
            with suppress(OSError, ValueError):  # a stream without a file
                nothing = os.open(os.devnull, os.O_WRONLY)
                try:
                    os.dup2(nothing, self._stream.fileno())
                finally:
                    os.close(nothing)


class Voice:
    """Says lines of rich's markup. Whoever speaks for `up` uses it: no console ends the platform."""

    def __init__(self, console: Console) -> None:
        self._console = console
        console.file = Lasting(console.file)  # type: ignore[assignment]  # all that rich asks of a file

    def __call__(self, text: str) -> None:
        """Says it: first where it lasts."""
        logger.info(Text.from_markup(text).plain)
        self._console.print(text, highlight=False, soft_wrap=True)
