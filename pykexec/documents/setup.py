"""pykexec.setup/1: what pykexec setup changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pykexec.documents.base import Choice, Count

STEP_STATE = Choice(("to do", "done", "undone", "left"))
ACTION = Choice(("create", "replace", "remove", "link", "restore", "leave"))
REGION = Choice(("boot", "next-boot", "module"))


@dataclass(frozen=True, slots=True)
class SetupFile:
    """a file that a step changes"""

    path: str
    action: Annotated[str, ACTION]
    """leave: it was changed after setup, and is therefore not restored"""
    diff: str
    """in the unified format; empty for a link"""


@dataclass(frozen=True, slots=True)
class SetupStep:
    """a step"""

    name: str
    state: Annotated[str, STEP_STATE]
    """left: not everything could be taken back"""
    why: str
    files: tuple[SetupFile, ...]
    commands: tuple[tuple[str, ...], ...]
    """each with its arguments, in order"""
    problem: str | None
    """why it is left"""


@dataclass(frozen=True, slots=True)
class Setup:
    """what pykexec setup changes, or has changed"""

    schema: ClassVar[str] = "pykexec.setup/1"
    machine: str
    action: Annotated[str, Choice(("check", "setup", "undo"))]
    region: Annotated[str, REGION] | None
    """how the crash region is made; null for undo"""
    changes: Count
    """steps that are still to be done or taken back"""
    steps: tuple[SetupStep, ...]
    armed: bool | None
    """whether a panic now would start the capture kernel; null if it is unknown"""
    reboot: bool
    """whether a reboot is needed before the machine is armed"""
    notes: tuple[str, ...]
