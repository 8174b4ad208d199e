"""pykexec.fleet-row/1 and pykexec.fleet-summary/1: one document per line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pykexec.documents.base import Count, ModeName
from pykexec.documents.error import CODE


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """how a machine would be armed"""

    mode: ModeName
    makes_region: bool
    """whether the crash region would be made at run time"""
    after_reboot: bool
    """whether the machine has to reboot first, because pykexec setup has a region reserved at the
    next boot"""
    window_size: Count
    """bytes of memory of the capture kernel"""
    held: Count
    """bytes of memory that are in use while the machine is armed"""
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FleetRefusal:
    """why a machine cannot be armed"""

    code: Annotated[str, CODE]
    message: str
    hint: str | None


@dataclass(frozen=True, slots=True)
class FleetOutcome:
    """either a plan or a refusal; the other one is null"""

    plan: FleetPlan | None
    refusal: FleetRefusal | None


@dataclass(frozen=True, slots=True)
class FleetRow:
    """a machine"""

    schema: ClassVar[str] = "pykexec.fleet-row/1"
    machine: str
    outcome: FleetOutcome
    compared: FleetOutcome | None
    """with the kernel of --compare; null without it"""


@dataclass(frozen=True, slots=True)
class FleetReason:
    """machines that have the same refusal, and would be helped by the same; the code may repeat"""

    code: Annotated[str, CODE]
    machines: Count
    example: str
    """the first of them"""
    message: str
    """its message"""
    hint: str | None


@dataclass(frozen=True, slots=True)
class FleetSummary:
    """all machines; with --compare, what the compared kernel changes"""

    schema: ClassVar[str] = "pykexec.fleet-summary/1"
    machines: Count
    can_be_armed: Count
    cannot_be_armed: Count
    changed: Count | None
    """null without --compare"""
    compared_cannot_be_armed: Count | None
    """machines on which the compared kernel cannot be armed; null without --compare"""
    after_reboot: Count
    """those of them that have to reboot first"""
    held: Count
    """bytes, in all machines that can be armed"""
    modes: dict[str, Count]
    reasons: tuple[FleetReason, ...]
