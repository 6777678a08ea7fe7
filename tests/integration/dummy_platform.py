"""`up` with small children in place of the platform's: `python dummy_platform.py DATA_DIR PORT NAME=BEHAVIOUR…`."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from app.config import Settings, load_settings
from app.errors import PlatformError
from app.local.child import ChildSpec
from app.local.run import Platform
from app.local.runfile import Run

STEADY = """
import os, pathlib, signal, sys, time
log = pathlib.Path(os.environ["DATA_DIR"]) / "ends.txt"
def end(number, frame):
    with log.open("a") as file:
        file.write(sys.argv[1] + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGINT, lambda *_: log.open("a").write("interrupted\\n"))
if sys.argv[2] == "family" and os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path(os.environ["READY_FILE"]).touch()
while True:
    time.sleep(0.1)
"""
STUBBORN = STEADY.replace("signal.signal(signal.SIGTERM, end)", "signal.signal(signal.SIGTERM, signal.SIG_IGN)")
FAILING = 'import sys; print("the last words of it", flush=True); sys.exit(3)'
SCRIPTS = {"steady": STEADY, "family": STEADY, "stubborn": STUBBORN, "failing": FAILING}


def main() -> int:
    data_dir, port, *children = sys.argv[1:]

    def table(settings: Settings, run: Run, run_dir: Path) -> list[ChildSpec]:
        specs = []
        for stage, child in enumerate(children):
            name, behaviour = child.split("=")
            argv = (sys.executable, "-c", SCRIPTS[behaviour], name, behaviour)
            specs.append(ChildSpec(name, argv, (run_dir / f"{name}.ready").exists, stage=stage, stop_s=1.0))
        return specs

    settings = load_settings(
        data_dir=Path(data_dir), log_dir=Path(data_dir) / "logs", web_port=int(port), flower_port=0, sandbox_port=0,
        _env_file=None,
    )  # fmt: skip
    try:
        return Platform(settings, console=Console(width=200), table=table).run()
    except PlatformError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
