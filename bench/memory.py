"""The memory of the running platform: PSS of each process (smaps_rollup), from run.json. `--json` for a machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from app.config import load_settings
from app.local.runfile import read_run


def pss_mb(pid: int) -> float:
    """Proportional set size of a process in MB: shared pages are split among those who share them."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def measure(data_dir: Path) -> dict[str, tuple[int, float]]:
    """(number of processes, PSS in MB) of each part of the platform on `data_dir`."""
    run = read_run(data_dir)
    if run is None or not run.alive:
        raise SystemExit(f"nothing runs on {data_dir}: start it with `make demo`")
    roots = {"up": [psutil.Process(run.pid)]}
    for name, pid, _ in json.loads((data_dir / "children.json").read_text()):
        roots[name] = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    known = {process.pid for group in roots.values() for process in group}
    for child in psutil.Process(run.pid).children():
        if child.pid not in known:  # the embedded servers
            roots[child.name().split("-")[0]] = [child, *child.children(recursive=True)]
    return {name: (len(group), sum(pss_mb(process.pid) for process in group)) for name, group in roots.items()}


def main() -> None:
    parts = measure(load_settings().data_dir)
    total = sum(mb for _, mb in parts.values())
    if "--json" in sys.argv:
        print(json.dumps({"total_mb": round(total, 1), **{name: round(mb, 1) for name, (_, mb) in parts.items()}}))
        return
    table = Table("part", "processes", "PSS, MB", box=None, show_footer=False)
    for name, (count, mb) in sorted(parts.items(), key=lambda item: -item[1][1]):
        table.add_row(name, str(count), f"{mb:.1f}")
    table.add_row("[bold]total", str(sum(count for count, _ in parts.values())), f"[bold]{total:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
