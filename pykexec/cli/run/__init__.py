"""What each verb does; `verbs` has the options.

A module of this package is imported when it is used: `run.diff` imports pykexec.cli.run.diff. So
these modules import what they need at the top, and `--help` and completion need none of it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

    from pykexec.cli.run import (
        crash_cause,
        crash_log,
        diff,
        doctor,
        execute,
        explain,
        fleet,
        inspect,
        load,
        load_acts,
        load_by_file,
        load_steps,
        machine,
        real,
        region,
        rehearse,
        save,
        saved,
        setup,
        simulation,
        status,
        unload,
        vmcore,
    )

__all__ = [
    "crash_cause",
    "crash_log",
    "diff",
    "doctor",
    "execute",
    "explain",
    "fleet",
    "inspect",
    "load",
    "load_acts",
    "load_by_file",
    "load_steps",
    "machine",
    "real",
    "region",
    "rehearse",
    "save",
    "saved",
    "setup",
    "simulation",
    "status",
    "unload",
    "vmcore",
]


def __getattr__(name: str) -> ModuleType:
    """Import the module with this name at its first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")
