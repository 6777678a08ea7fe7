"""The supervisor: starts the children, restarts those that die, and stops all of them in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from signal import SIGKILL, SIGTERM

from rich.markup import escape

from app.local.child import Child, ChildSpec, State

TICK_S = 0.2


class Supervisor:
    """Looks after a set of children. `changed` is called whenever a process came or went."""

    def __init__(
        self,
        specs: Sequence[ChildSpec],
        *,
        environment: Mapping[str, str],
        cwd: Path,
        run_dir: Path,
        log_dir: Path,
        say: Callable[[str], None],
        changed: Callable[[], None],
    ) -> None:
        self.children = {spec.name: Child(spec, run_dir=run_dir, log_dir=log_dir) for spec in specs}
        self.passing: list[Child] = []  # those that a restart is starting or ending beside the others
        self._environment, self._cwd = dict(environment), cwd
        self._run_dir, self._log_dir = run_dir, log_dir
        self._say, self._changed = say, changed

    def successor(self, spec: ChildSpec, *, turn: int) -> Child:
        """Starts a child beside the others; the caller looks after it until it is one of `children`."""
        child = Child(spec, run_dir=self._run_dir, log_dir=self._log_dir, turn=turn)
        self.passing.append(child)
        child.start(self._environment, cwd=self._cwd)
        self._changed()
        return child

    def passed(self, child: Child) -> None:
        """A child of `passing` has ended, or is one of `children` now."""
        self.passing.remove(child)
        self._changed()

    @property
    def everyone(self) -> list[Child]:
        """All children there are, those that come and go too."""
        return [*self.children.values(), *self.passing]

    def tick(self) -> None:
        """One look at every child: reports deaths, starts what is due."""
        before = self.pids
        for child in self.children.values():
            state = child.state
            child.look()
            if child.state is not state:
                self._report(child, state)
        for child in self.children.values():
            if self._due(child):
                child.start(self._environment, cwd=self._cwd)
                if child.state is not State.STARTING:
                    self._report(child, State.STARTING)
        if self.pids != before:
            self._changed()

    @property
    def pids(self) -> dict[str, int]:
        """The process id of each child that has a process."""
        return {name: child.pid for name, child in self.children.items() if child.pid is not None}

    @property
    def settled(self) -> bool:
        """Whether every child is ready or given up."""
        return all(child.state in {State.READY, State.GIVEN_UP} for child in self.children.values())

    def _due(self, child: Child) -> bool:
        if child.state is State.RESTARTING:
            return time.monotonic() >= child.start_at
        # One given up must not hold back the rest.
        needed = [self.children[name].state for name in child.spec.needs if name in self.children]
        return child.state is State.WAITING and all(state in {State.READY, State.GIVEN_UP} for state in needed)

    def _report(self, child: Child, before: State) -> None:
        name = child.spec.name
        if child.state is State.READY:
            again = " again" if child.restarts else ""
            self._say(f"[green]✓[/] {name} ready{again} [dim]({child.ready_after_s or 0:.1f} s)[/]")
        elif child.state is State.RESTARTING:
            delay = max(0.0, child.start_at - time.monotonic())
            ending = f"{name} {_ending(child.code)}"
            self._say(f"[yellow]![/] {ending}; restarting in {delay:.1f} s [dim]({escape(str(child.traces))})[/]")
        elif child.state is State.GIVEN_UP:
            self._say(f"[red]✗[/] {name} {_ending(child.code)} five times in a minute: given up. Its last lines:")
            self._say(escape(child.last_words()))

    def stop(self, *, hurry: Callable[[], bool]) -> None:
        """Stops every child, stage by stage; `hurry` cuts the patience short when it turns true."""
        for stage in sorted({child.spec.stage for child in self.everyone}):
            group = [child for child in self.everyone if child.spec.stage == stage]
            for child in group:
                child.signal(SIGTERM)
            self._await_end(group, hurry)
            for child in group:
                child.stopped()
        self._changed()

    def _await_end(self, group: Sequence[Child], hurry: Callable[[], bool]) -> None:
        """Waits for each child of a stage; the impatient signals come when its time is over."""
        began = time.monotonic()
        cold: set[Child] = set()
        killed: set[Child] = set()
        while running := [child for child in group if child.running]:
            waited = time.monotonic() - began
            for child in running:
                spec = child.spec
                patience = spec.stop_s + (spec.cold_s if spec.cold_signal else 0.0)
                if spec.cold_signal and child not in cold and (waited > spec.stop_s or hurry()):
                    cold.add(child)
                    child.signal(spec.cold_signal)
                elif child not in killed and (waited > patience or (hurry() and not spec.cold_signal)):
                    killed.add(child)
                    self._say(f"[yellow]![/] {spec.name} did not stop in time: killed")
                    child.signal(SIGKILL)
            time.sleep(0.05)


def _ending(code: int | None) -> str:
    if code is None:
        return "ended"
    return f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
