"""Flower's settings: who may log in. Read by `celery … flower --conf=app/local/flower_conf.py`, not imported.

A password is never an argument, which every user of the machine could read with `ps`. Names that Flower has as options
are its options; the rest is ours.
"""

from __future__ import annotations

import hashlib

from app.config import load_settings
from app.logs import setup_logging

_settings = load_settings()
_password = _settings.flower_password.get_secret_value()
if not _password:
    raise SystemExit("error: FLOWER_PASSWORD is not set: Flower shows and stops tasks, so it is not open to everybody")

setup_logging(_settings, process=_settings.process_name or "flower")

# What a task is about and the queue it came through (the routing key), before its id.
tasks_columns = "name,args,routing_key,state,received,runtime,worker,uuid"
logging = "none"  # tornado's own, to the console; all of it comes to the platform's
basic_auth = [f"{_settings.flower_user}:{_password}"]
# Cookies that a restart does not make worthless.
cookie_secret = hashlib.sha256(f"flower's cookies {_password}".encode()).hexdigest()
