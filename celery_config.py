"""The Celery app: queues, routes and the beat's schedule. Tasks are named as strings, so nothing is imported here.

Delivery is at least once (late acknowledgement, short visibility timeout); the database decides what counts.
"""

from __future__ import annotations

from celery import Celery

from app.cache.broker import worker_conf
from app.config import load_settings
from app.local.lifecycle import connect_celery
from app.local.measuring import connect_metrics
from app.local.runfile import attach_celery

settings = attach_celery(load_settings())  # started by hand, they find what runs here
connect_celery(settings)
connect_metrics(settings)

celery = Celery(
    "market",
    include=["tasks.bars", "tasks.indicators", "tasks.upkeep", "tasks.backfill", "tasks.polling"],
)

celery.conf.update(
    **worker_conf(settings),  # broker and queues
    task_serializer="msgpack",
    accept_content=["msgpack", "json"],  # never pickle: it runs what it reads
    task_ignore_result=True,
    task_store_errors_even_if_ignored=False,
    task_send_sent_event=True,  # without it nobody who watches learns of a task's queue
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_time_limit=50,  # under the visibility timeout: a message is never at two workers while one still hangs on it
    task_acks_on_timeout=False,
    task_create_missing_queues=False,
    task_routes={
        "tasks.bars.ingest": {"queue": "trades.0"},
        "tasks.bars.*": {"queue": "bars"},
        "tasks.indicators.*": {"queue": "indicators"},
        "tasks.backfill.*": {"queue": "backfill"},
        "tasks.polling.*": {"queue": "polling"},
        "tasks.upkeep.find_outages": {"queue": "bars"},  # quick, and not to wait for a slow exchange
        "tasks.upkeep.*": {"queue": "upkeep"},
    },
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    worker_cancel_long_running_tasks_on_connection_loss=True,
    worker_soft_shutdown_timeout=4.0,
    worker_enable_soft_shutdown_on_idle=False,
    worker_max_memory_per_child=400_000,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    timezone="UTC",
    beat_scheduler="app.local.beat:HeartScheduler",
    beat_schedule={
        # A tick that waited longer than `expires` is dropped: the next one does its work.
        "close": {"task": "tasks.bars.close_due", "schedule": 1.0, "options": {"expires": 5}},
        "derive": {
            "task": "tasks.indicators.derive",
            "schedule": 5.0,
            "options": {"expires": 15, "argsrepr": "shard 0"},
            "args": (0,),
        },
        "repair": {"task": "tasks.upkeep.repair", "schedule": 2.0, "options": {"expires": 10}},
        "gaps": {"task": "tasks.upkeep.find_gaps", "schedule": 2.0, "options": {"expires": 10}},
        "verify": {"task": "tasks.upkeep.verify", "schedule": 5.0, "options": {"expires": 15}},
        "outages": {"task": "tasks.upkeep.find_outages", "schedule": 5.0, "options": {"expires": 10}},
        "scan": {"task": "tasks.upkeep.scan", "schedule": 15.0, "options": {"expires": 30}},
        "backfills": {"task": "tasks.upkeep.resume_backfills", "schedule": 3.0, "options": {"expires": 10}},
        "poll": {"task": "tasks.polling.poll", "schedule": 5.0, "options": {"expires": 30}},
        "sessions": {"task": "tasks.polling.sessions", "schedule": 60.0, "options": {"expires": 60}},
        "daily": {"task": "tasks.polling.daily", "schedule": 60.0, "options": {"expires": 60}},
        "retain": {"task": "tasks.upkeep.retain", "schedule": 3600.0, "options": {"expires": 600}},
        "tidy": {"task": "tasks.upkeep.tidy", "schedule": 300.0, "options": {"expires": 60}},
    },
    beat_schedule_filename=str(settings.data_dir / "celerybeat-schedule"),
)
