"""The backend and the machine of a command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.cli import run as later
from pykexec.cli.report.target import Target
from pykexec.errors import UsageError
from pykexec.host.facts import read_machine
from pykexec.host.root import THIS_MACHINE

if TYPE_CHECKING:
    from pathlib import Path

    from pykexec.backends.backend import Backend
    from pykexec.cli.output import Output
    from pykexec.machine import Machine


def check_machine_option(backend: str, folder: Path | None) -> None:
    """--machine has no effect on the real kernel."""
    if backend == "kernel" and folder is not None:
        raise UsageError(
            "--machine would be ignored: it is for the simulated backend",
            hint="omit --machine or --backend kernel",
        )


def chosen(
    backend: str, folder: Path | None, output: Output, make: bool = False
) -> tuple[Target, Backend]:
    """The backend that will act. Without --machine the simulated one uses the default machine,
    which only a command that loads something may `make`."""
    check_machine_option(backend, folder)
    if backend == "kernel":
        return Target("kernel", "this machine"), later.real.backend()
    return later.simulation.machine(folder, output, make)


def dry_run(
    backend: str, folder: Path | None, root: Path | None, output: Output, symbols: bool
) -> tuple[Target, Machine]:
    """The facts for a dry run: those of a simulated, a captured, or this machine, with an assumed
    memory map if none can be read. `symbols` is whether the plan depends on kernel symbols and
    memory blocks, which take a while to read."""
    check_machine_option(backend, folder)
    if folder is not None:
        found, opened = later.simulation.machine(folder, output)
        return found, opened.machine()
    if root:
        from pykexec.host.captured import open_root

        facts = read_machine(open_root(root), symbols)
    else:
        facts = read_machine(THIS_MACHINE, symbols)
    planned = facts.with_assumed_map()
    if planned is not facts:
        output.note(f"the memory map is {planned.memory_map_source}: addresses are a guess")
    source = f", map of {facts.memory_map_source}" if planned is facts else ", assumed map"
    return Target(backend, f"{facts.name}{source}"), planned
