"""Logging: one file a process, the standard library's records in it, and no secret."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from app.config import Settings, load_settings
from app.logs import Redactor, logger, setup_logging


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(
        _env_file=None, log_dir=tmp_path, log_console=False, binance_api_secret=SecretStr("s3cr3t-key"),
        redis_url="redis://:redis-pass@127.0.0.1:6379/0", database_url="postgresql://me:pg-pass@db:5432/x",
    )  # fmt: skip


@pytest.fixture
def _logging_restored() -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    logger.remove()
    logging.captureWarnings(False)
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


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
def test_no_secret_reaches_the_file(settings: Settings) -> None:
    setup_logging(settings, process="web")
    logger.info("connecting to {}", settings.redis_url, key="s3cr3t-key")
    try:
        raise ValueError(f"cannot reach {settings.database_url}, nor https://user:other@host/")
    except ValueError:
        logger.exception("failed")
    text = (settings.log_dir / "web.log").read_text()
    assert "ValueError: cannot reach postgresql://me:***@db:5432/x, nor https://user:***@host/" in text
    assert "key=***" in text
    for secret in ("redis-pass", "pg-pass", "s3cr3t-key", "other"):
        assert secret not in text


@pytest.mark.usefixtures("_logging_restored")
def test_frames_of_a_socket_stay_out_of_a_debug_log(settings: Settings) -> None:
    setup_logging(settings.model_copy(update={"log_level": "DEBUG"}), process="web")
    for name in ("websockets", "websockets.client", "websockets.server"):
        logging.getLogger(name).debug("> BINARY 84 a6 61")
    logging.getLogger("websockets.client").warning("written")
    logging.getLogger("app.other").debug("told")
    text = (settings.log_dir / "web.log").read_text()
    assert "BINARY" not in text and "written" in text and "told" in text


def test_the_redactor_leaves_plain_text_alone(settings: Settings) -> None:
    text = "bar of BTC/USDT at 12:30 closed, see http://127.0.0.1:8000/charts"
    assert Redactor(settings)(text) == text
