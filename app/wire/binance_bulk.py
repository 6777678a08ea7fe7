"""The lines of Binance's public bulk files, a block at a time: csv, or each csv in a zip; and whose the files are."""

from __future__ import annotations

import re
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from app.errors import BadFile

BLOCK_BYTES = 1 << 18
_TRADES_NAME = re.compile(r"([A-Z0-9]+)-(?:aggTrades|trades)-[0-9]{4}-[0-9]{2}", re.IGNORECASE)

OnBad = Callable[[BadFile], None]


@dataclass(frozen=True, slots=True)
class Lines:
    """Some lines of a file; `start` is the number of the first."""

    start: int
    texts: list[str]


def members(path: Path) -> Iterator[tuple[str, Iterator[Lines]]]:
    """(name to show, blocks of lines) of the file, or of each csv in the zip."""
    with _readable(str(path)):
        if not stat.S_ISREG(path.stat().st_mode):
            raise BadFile(str(path), "not a regular file")
        with path.open("rb") as file:
            magic = file.read(4)
            file.seek(0)
            if magic.startswith(b"PK"):
                yield from _zip_members(path, file)
            else:
                yield str(path), _blocks(str(path), file)


def trades_names(path: Path) -> Iterator[tuple[str, str]]:
    """(name to show, wire symbol) of a file of trades and of each csv in it, where the name says the symbol."""
    if match := _TRADES_NAME.match(path.name):
        yield str(path), match[1].upper()
    try:
        inside = _inside(path)
    except BadFile:  # whoever reads it hears of that
        inside = []
    for name in inside:
        if match := _TRADES_NAME.match(PurePosixPath(name).name):
            yield f"{path}:{name}", match[1].upper()


def _inside(path: Path) -> list[str]:
    """The csv files in the zip, none where the file is no zip."""
    with _readable(str(path)):
        if not (path.is_file() and zipfile.is_zipfile(path)):
            return []
        with zipfile.ZipFile(path) as archive:
            return _csvs(archive)


def _csvs(archive: zipfile.ZipFile) -> list[str]:
    csvs = (name for name in archive.namelist() if name.lower().endswith(".csv"))
    return [name for name in csvs if not name.startswith("__MACOSX/")]


def _zip_members(path: Path, file: IO[bytes]) -> Iterator[tuple[str, Iterator[Lines]]]:
    with zipfile.ZipFile(file) as archive:
        names = _csvs(archive)
        if not names:
            raise BadFile(str(path), "the zip holds no csv file")
        for name in names:
            with archive.open(name) as member:
                shown = str(path) if len(names) == 1 else f"{path}:{name}"
                yield shown, _blocks(shown, member)


@contextmanager
def _readable(path: str) -> Iterator[None]:
    """Turns what goes wrong in reading bytes into BadFile."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise BadFile(path, f"truncated or damaged zip ({error}): download it again") from error
    except (RuntimeError, NotImplementedError) as error:
        raise BadFile(path, f"this zip cannot be read ({error})") from error
    except OSError as error:
        raise BadFile(path, error.strerror or str(error)) from error


def _blocks(path: str, file: IO[bytes]) -> Iterator[Lines]:
    """Whole lines, numbered from 1, a block at a time."""
    number, rest = 1, b""
    while True:
        with _readable(path):
            chunk = file.read(BLOCK_BYTES)
        body, newline, tail = (rest + chunk).rpartition(b"\n") if chunk else (rest, b"", b"")
        if len(tail) > BLOCK_BYTES:
            raise BadFile(path, "not a Binance bulk file (a line without end)", line=number)
        rest = tail
        if body or newline:
            texts = _decoded(path, body, number).replace("\r\n", "\n").removesuffix("\r").split("\n")
            yield Lines(number, texts)
            number += len(texts)
        if not chunk:
            return


def _decoded(path: str, body: bytes, number: int) -> str:
    try:
        return body.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        line = number + body.count(b"\n", 0, error.start)
        raise BadFile(path, "not a Binance bulk file (not text)", line=line) from error
