"""The watchlist."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from app.errors import AmbiguousSymbol, UnknownInstrument
from app.storage import catalog
from tests.contract.storage.bars import AAPL, BTC, THYAO
from tests.contract.storage.registry import case


@case(catalog.instruments, instruments=(1, 1))
def instruments(c: sa.Connection) -> object:
    catalog.set_active(c, AAPL, False)
    found = catalog.instruments(c, active_only=True)
    assert AAPL not in {item.id for item in found}
    return catalog.instruments(c), found


@case(catalog.find, instruments=(0, 1))
def find(c: sa.Connection) -> object:
    catalog.add(c, "yahoo", "AAPL")
    with pytest.raises(AmbiguousSymbol, match="alpaca, yahoo"):
        catalog.find(c, "aapl")
    with pytest.raises(UnknownInstrument, match="instruments list"):
        catalog.find(c, "nothing")
    return catalog.find(c, "btc-usdt"), catalog.find(c, "AAPL", "alpaca"), catalog.find(c, "thyao.is")


@case(catalog.get)
def get(c: sa.Connection) -> object:
    assert catalog.get(c, 999) is None
    return catalog.get(c, BTC), catalog.get(c, THYAO)


@case(catalog.add, instruments=(2, 3))
def add(c: sa.Connection) -> object:
    new = catalog.add(c, "binance", "xrp-eth", active=False, price_decimals=8)
    assert (new.id, new.symbol, new.wire_symbol) == (1001, "XRP/ETH", "XRPETH")
    catalog.set_active(c, BTC, False)
    known = catalog.add(c, "binance", "BTC/USDT", price_decimals=3)
    assert (known.id, known.price_decimals, known.active) == (BTC, 3, True)
    return new, known, catalog.add(c, "yahoo", "thyao.is", calendar="XNYS", currency="USD", active=False)


@case(catalog.set_active, instruments=(1, 1))
def set_active(c: sa.Connection) -> object:
    catalog.set_active(c, THYAO, False)
    catalog.set_active(c, 999, False)
    return catalog.get(c, THYAO)
