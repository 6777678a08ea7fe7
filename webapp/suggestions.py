"""Charts whose address is near to one that nobody has: did you mean …?"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher

from flask import current_app, request
from loguru import logger
from sqlalchemy.exc import SQLAlchemyError

from app.domain.instruments import RULES, Instrument
from app.errors import Unavailable
from webapp.composition import Web
from webapp.pages import chart_path

MOST = 6
LEAST_LIKENESS = 0.45


def nearest() -> list[dict[str, str]]:
    """The charts nearest to the one this request asked for; none while the database is away."""
    wanted, exchange = ((request.view_args or {}).get(name) for name in ("symbol", "exchange"))
    web: Web = current_app.extensions["web"]
    if not wanted or web.settings.api_reads_need_token:  # no page asks for a token, so none lists what there is
        return []
    try:
        found = ranked(str(wanted), str(exchange), web.instruments())
    except (SQLAlchemyError, Unavailable) as error:
        logger.warning("no suggestions: {}", type(error).__name__)
        return []
    return [{"symbol": item.symbol, "title": RULES[item.exchange].title, "address": chart_path(item)} for item in found]


def ranked(wanted: str, exchange: str, instruments: Iterable[Instrument]) -> list[Instrument]:
    """The instruments whose symbol is like `wanted`, the likest first, those of `exchange` before others like them."""
    text = _bare(wanted)
    scored = [(_likeness(text, _bare(item.symbol)), item.exchange.value == exchange, item) for item in instruments]
    scored = [each for each in scored if each[0] >= LEAST_LIKENESS]
    scored.sort(key=lambda each: (-each[0], not each[1], not each[2].active, each[2].symbol))
    return [item for _, _, item in scored[:MOST]]


def _likeness(wanted: str, symbol: str) -> float:
    """0 to 1; a symbol that begins with what was written, or the other way round, is always like it."""
    if not wanted:
        return 0.0
    ratio = SequenceMatcher(None, wanted, symbol, autojunk=False).ratio()
    return max(ratio, 0.8) if symbol.startswith(wanted) or wanted.startswith(symbol) else ratio


def _bare(symbol: str) -> str:
    return "".join(character for character in symbol.upper() if character.isalnum())[:40]
