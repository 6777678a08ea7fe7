"""Logging: one file a process, the standard library's records in it, JSON when asked, no secret, no flood."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import zipfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from app.config import Settings, load_settings
from app.logs import Redactor, flush_logs, logger, setup_logging
from app.logs.files import LogFile
from app.logs.repeats import KEPT, Repeats, Story

SECRETS = (
    "redis-pass",
    "pg-pass",
    "p@ss/w",
    "s3cr3t-key",
    "alp-key-1",
    "alp-s3cr3t",
    "jwt-secret-" + "x" * 32,
    "t" * 20,
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(
        _env_file=None, log_dir=tmp_path, log_console=False, binance_api_secret=SecretStr("s3cr3t-key"),
        redis_url="redis://:redis-pass@127.0.0.1:6379/0", database_url="postgresql://me:pg-pass@db:5432/x",
        alpaca_api_key="alp-key-1", alpaca_secret_key=SecretStr("alp-s3cr3t"), api_token=SecretStr("t" * 20),
        jwt_secret=SecretStr("jwt-secret-" + "x" * 32), flower_password=SecretStr("p@ss/w-flower"),
    )  # fmt: skip


@pytest.fixture
def _logging_restored() -> Iterator[None]:
    handlers, level, hook = logging.root.handlers[:], logging.root.level, sys.excepthook
    yield
    logger.remove()
    logger.configure(patcher=lambda _: None)
    logging.captureWarnings(False)
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    sys.excepthook = hook


def as_json(settings: Settings, **more: Any) -> Settings:
    return settings.model_copy(update={"log_format": "json", **more})


def told(settings: Settings) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (settings.log_dir / "web.log").read_text().splitlines()]


@pytest.mark.usefixtures("_logging_restored")
def test_both_kinds_of_logging_end_in_the_file_of_the_process(settings: Settings) -> None:
    setup_logging(settings, process="web")
    logger.info("batch refused", reason="late", n=3)
    logging.getLogger("celery.worker").warning("{lost} %s", "connection")
    lines = (settings.log_dir / "web.log").read_text().splitlines()
    assert lines[0].endswith("batch refused reason=late n=3")
    assert "test_logs" in lines[0]
    assert lines[1].endswith("{lost} connection")


@pytest.mark.usefixtures("_logging_restored")
def test_json_is_an_object_a_line_with_the_fields_flat(settings: Settings) -> None:
    setup_logging(as_json(settings), process="web")
    with logger.contextualize(batch="1a2b-3"):
        logger.info("two\nlines", n=3, at=1.5, level="mine", raw=b"\x00\xff", deep={"a": [1, {2: "x"}]}, huge=2**70)
    logging.getLogger("celery.worker").warning("%s %s", "one")  # too few arguments
    logger.info("half \ud800 of a character")
    try:
        raise ValueError("no\ngood")
    except ValueError:
        logger.exception("failed")
    first, second, third, fourth = told(settings)
    assert first["time"].endswith("Z") and len(first["time"]) == len("2026-11-26T14:57:31.123Z")
    assert (first["level"], first["message"], first["process"], first["batch"]) == (
        "INFO",
        "two\nlines",
        "web",
        "1a2b-3",
    )
    assert (first["n"], first["at"], first["level_"], first["raw"]) == (3, 1.5, "mine", "2 bytes")
    assert first["deep"] == {"a": [1, {"2": "x"}]} and first["huge"] == str(2**70) and first["pid"] > 0
    assert "batch" not in second and "'%s %s'" in second["message"]
    assert third["message"].startswith("half")
    assert fourth["exception"]["type"] == "builtins.ValueError" and fourth["exception"]["message"] == "no\ngood"
    assert "Traceback" in fourth["exception"]["stack"] and "test_logs.py" in fourth["exception"]["stack"]


@pytest.mark.usefixtures("_logging_restored")
@pytest.mark.parametrize("form", ["text", "json"])
def test_no_secret_reaches_the_file(settings: Settings, form: str) -> None:
    setup_logging(settings.model_copy(update={"log_format": form}), process="web")
    jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJib3QifQ.c2lnbmF0dXJl"
    headers = {"Authorization": "Bearer another-bearer", "APCA-API-KEY-ID": "unknown-id", "X-MBX-APIKEY": "mbx-unknown"}
    logger.info(
        "connecting to {}", settings.redis_url, key="s3cr3t-key", password="plain-pass", api_token="tok-tok-tok"
    )
    logger.info("headers {} of GET /ws?symbol=A&token=query-token&x=1", headers, headers=headers, jwt=jwt)
    logger.info("alp-key-1 alp-s3cr3t p%40ss%2Fw-flower jwt-secret-" + "x" * 32, nested={"secret": "in-a-dict"})
    logging.getLogger("urllib3.connectionpool").warning("Authorization: Basic %s", "dXNlcjpvdGhlcg==")
    logging.getLogger("vendor").error('{"access_token": "json-token", "n": 1}')
    try:
        raise ValueError(
            f"cannot reach {settings.database_url}, nor https://user:other@host/?api_key=key-in-url {'t' * 20}"
        )
    except ValueError:
        logger.exception("failed")
    text = (settings.log_dir / "web.log").read_text()
    assert "cannot reach postgresql://me:***@db:5432/x, nor https://user:***@host/" in text
    assert "symbol=A&token=***&x=1" in text
    for secret in (
        *SECRETS, "p%40ss", "other@", "another-bearer", "unknown-id", "mbx-unknown", "plain-pass", "tok-tok-tok",
        "query-token", "in-a-dict", "dXNlcjpvdGhlcg", "json-token", "key-in-url", jwt,
    ):  # fmt: skip
        assert secret not in text, secret
    if form == "json":
        assert all(json.loads(line) for line in text.splitlines())


@pytest.mark.usefixtures("_logging_restored")
@pytest.mark.parametrize("form", ["text", "json"])
def test_the_error_that_ends_a_process_is_in_its_log_and_on_stderr_without_secrets(
    settings: Settings, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    setup_logging(settings.model_copy(update={"log_format": form}), process="web")
    try:
        raise OSError(f"cannot reach {settings.redis_url}")
    except OSError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    text, shown = (settings.log_dir / "web.log").read_text(), capsys.readouterr().err
    assert "nobody caught" in text and "OSError: cannot reach redis://:***@127.0.0.1" in text
    assert ("OSError: cannot reach redis://:***@" in shown) is (form == "text"), "JSON has the console for itself"


@pytest.mark.usefixtures("_logging_restored")
def test_frames_of_a_socket_stay_out_of_a_debug_log(settings: Settings) -> None:
    setup_logging(settings.model_copy(update={"log_level": "DEBUG"}), process="web")
    for name in ("websockets", "websockets.client", "websockets.server"):
        logging.getLogger(name).debug("> BINARY 84 a6 61")
    logging.getLogger("websockets.client").warning("written")
    logging.getLogger("app.other").debug("told")
    text = (settings.log_dir / "web.log").read_text()
    assert "BINARY" not in text and "written" in text and "told" in text


@pytest.mark.parametrize(
    "text",
    [
        "bar of BTC/USDT at 12:30 closed, see http://127.0.0.1:8000/charts",
        "this needs a token: send the header, see key=binance:BTC/USDT",
        "a basic bearer of news, no password set",
    ],
)
def test_the_redactor_leaves_plain_text_alone(settings: Settings, text: str) -> None:
    assert Redactor(settings)(text) == text


@pytest.mark.usefixtures("_logging_restored")
def test_what_is_said_again_and_again_is_told_once_more_with_its_number(settings: Settings) -> None:
    setup_logging(as_json(settings), process="web")
    for n in range(340):
        logger.warning("{} away for {} s", "Redis", n, n=n)
        logger.info("not a warning")
        for reason in ("one", "two"):
            logging.getLogger("vendor").warning("%s has %s", reason, n)  # the same template
    flush_logs()
    lines = told(settings)
    texts = [line["message"] for line in lines if line["level"] == "WARNING"]
    assert [text for text in texts if text.startswith("Redis")] == [f"Redis away for {n} s" for n in range(5)]
    summary = next(line for line in lines if "times more" in line["message"] and "Redis" in line["message"])
    assert summary["message"].startswith("… 335 times more in the last ")
    assert summary["message"].endswith("Redis away for 339 s")
    assert (summary["repeated"], summary["n"], summary["logger"]) == (335, 339, "tests.unit.test_logs")
    assert sum(line["message"] == "not a warning" for line in lines) == 340
    vendor = [line for line in lines if "has" in line["message"]]
    assert len(vendor) == 6 and vendor[-1]["repeated"] == 2 * 340 - 5


class Told:
    """Collects summaries; its clock stands still until it is moved."""

    def __init__(self, **more: Any) -> None:
        self.now, self.counts = 0.0, list[int]()
        self.repeats = Repeats(self.tell, most=2, window_s=60.0, clock=lambda: self.now, **more)

    def tell(self, story: Story, seconds: float) -> None:
        self.counts.append(story.swallowed)

    def say(self, key: object, times: int = 1) -> int:
        return sum(self.repeats.admits((key,), lambda story: None) for _ in range(times))


def test_counts_of_repeats_are_never_lost_and_memory_is_bounded() -> None:
    heard = Told()
    assert heard.say("a", 10) == 2
    heard.now = 61.0
    assert heard.say("a", 3) == 2 and heard.counts == [8]
    assert heard.say("b", 7) == 2
    assert sum(heard.say(n) for n in range(2 * KEPT)) == 2 * KEPT
    assert sorted(heard.counts) == [1, 5, 8], "what was forgotten for want of room was told"
    heard.say("c", 4)
    heard.repeats.flush()
    assert sorted(heard.counts) == [1, 2, 5, 8]
    heard.repeats.flush()
    assert len(heard.counts) == 4


def test_threads_lose_no_count() -> None:
    heard = Told()
    admitted = list[int]()
    threads = [threading.Thread(target=lambda: admitted.append(heard.say("a", 500))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    heard.repeats.flush()
    assert sum(admitted) == 2 and sum(heard.counts) == 8 * 500 - 2


def test_a_summary_comes_by_itself_once_its_window_is_over() -> None:
    done = threading.Event()
    counts = list[int]()

    def tell(story: Story, seconds: float) -> None:
        counts.append(story.swallowed)
        done.set()

    repeats = Repeats(tell, most=1, window_s=0.05)
    for _ in range(4):
        repeats.admits("a", lambda story: None)
    assert done.wait(10) and counts == [3]


def test_a_log_file_is_put_away_when_it_is_long_and_all_are_bounded(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "web.log", most_bytes=1000, total_bytes=1500)
    for n in range(200):
        file.write(f"{n:04} " + "".join(chr(33 + (n * 7 + i * 13) % 90) for i in range(94)) + "\n")
    file.stop()
    old = sorted(tmp_path.glob("*.log.zip"))
    assert 1 <= len(old) < 19 and sum(path.stat().st_size for path in old) <= 1500
    assert (tmp_path / "web.log").read_text().startswith("019") and not list(tmp_path.glob("web.2*.log"))
    assert (tmp_path / "web.log").stat().st_size <= 1000


def test_a_log_file_is_put_away_at_midnight_and_forgotten_after_a_month(tmp_path: Path) -> None:
    now = [datetime(2026, 11, 26, 23, 59, 59).timestamp()]  # noqa: DTZ001  # where the machine is
    (tmp_path / "beat.2026-01-01_00-00-00_1.log.zip").write_bytes(b"old")
    os.utime(tmp_path / "beat.2026-01-01_00-00-00_1.log.zip", (0, now[0] - 31 * 86_400))
    (tmp_path / "notes.zip").write_bytes(b"not ours")
    file = LogFile(tmp_path / "web.log", most_bytes=10**6, total_bytes=10**6, clock=lambda: now[0])
    file.write("on thursday\n")
    now[0] += 2
    file.write("on friday\n")
    file.stop()
    assert (tmp_path / "web.log").read_text() == "on friday\n"
    (old,) = tmp_path.glob("*.log.zip")
    with zipfile.ZipFile(old) as archive:
        assert archive.read(archive.namelist()[0]) == b"on thursday\n"
    assert old.name.startswith("web.2026-11-27_00-00-01") and (tmp_path / "notes.zip").exists()


def test_a_second_process_of_the_same_name_has_a_file_of_its_own(tmp_path: Path) -> None:
    first, second = (LogFile(tmp_path / "web.log", most_bytes=100, total_bytes=10**6) for _ in range(2))
    for n in range(6):
        first.write(f"first {n} {'x' * 30}\n")
        second.write(f"second {n} {'x' * 30}\n")
    assert "second" not in (tmp_path / "web.log").read_text() and "first" not in (tmp_path / "web.2.log").read_text()
    first.stop()
    second.stop()
    third = LogFile(tmp_path / "web.log", most_bytes=10**6, total_bytes=10**6)
    third.write("third\n")
    third.stop()
    assert (tmp_path / "web.log").read_text().endswith("third\n") and not (tmp_path / "web.3.log").exists()
    text = ""
    for path in tmp_path.glob("*.zip"):
        with zipfile.ZipFile(path) as archive:
            text += archive.read(archive.namelist()[0]).decode()
    text += "".join(path.read_text() for path in tmp_path.glob("*.log"))
    assert text.count("first") == text.count("second") == 6


@pytest.mark.usefixtures("_logging_restored")
def test_a_full_disk_costs_lines_and_not_the_process(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    setup_logging(as_json(settings), process="web")
    logger.info("before")
    real, full = LogFile._write, True

    def write(self: LogFile, line: str) -> None:
        if full:
            raise OSError(28, "No space left on device")
        real(self, line)

    monkeypatch.setattr(LogFile, "_write", write)
    for n in range(50):
        logger.info("lost {}", n)
    assert capsys.readouterr().err.count("No space left on device") == 1
    full = False
    logger.info("after")
    assert [line["message"] for line in told(settings)] == [
        "before", "50 lines before this one are lost: the file could not be written", "after",
    ]  # fmt: skip


def test_a_folder_that_cannot_be_made_ends_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    file = LogFile(tmp_path / "file" / "web.log", most_bytes=1000, total_bytes=1000)
    file.write("one\n")
    file.write("two\n")
    assert capsys.readouterr().err.count("cannot be written") == 1
