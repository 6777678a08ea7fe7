"""The table of addresses that `up` shows when everything runs."""

from __future__ import annotations

import re

from app.config import Settings
from app.local.flower import flower_password_path
from app.local.runfile import Run
from app.local.token import token_path


def address_table(settings: Settings, run: Run, *, seconds: float) -> str:
    """Where everything is, passwords left out; lines are never cut or broken, so that they can be copied."""
    token = token_path(settings)
    password = flower_password_path(settings)
    known = f"password in {password}" if password else "password FLOWER_PASSWORD"
    rows = {
        "Live chart": f"{run.web_url}/charts/binance/BTC-USDT",
        "Market overview": f"{run.web_url}/",
        "REST": f"{run.web_url}/api/charts/BTC-USDT?exchange=binance&timeframe=1m&limit=10",
        "API token": f"in {token} (writes need it)" if token else "",
        "Flower": f"{run.flower_url}  (user {settings.flower_user}, {known})",
        "Simulated market": run.sandbox_url,
        "Database": without_password(run.database_url),
        "Redis": without_password(run.redis_url),
        "Broker": without_password(run.celery_broker_url) if run.celery_broker_url != run.redis_url else "",
        "Logs": run.log_dir,
        "Data": str(settings.data_dir),
    }
    lines = [f"  [bold]{name:<16}[/]  {value}" for name, value in rows.items() if value]
    return "\n".join(["", f"[bold]Running after {seconds:.0f} s[/]", *lines, ""])


def without_password(url: str) -> str:
    """The URL with its passwords (and SQLAlchemy's driver name) left out."""
    shown = re.sub(r"(?<=://)([^\s:/@]*):[^\s@/]+@", r"\1@", url).replace("+psycopg2", "", 1)
    shown = re.sub(r"[?&][a-z_]*password=[^&\s]*", "", shown)
    return shown.replace("://@", "://", 1)
