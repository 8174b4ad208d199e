"""The whole flow of a load, on one page:

bytes -> KernelImage -> PlacementPlan -> SegmentTable -> checks -> Backend.load -> Loaded
      -> BackupMap -> ELF core headers -> Backend.bind_headers
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from pykexec.backends.backend import Backend, Loaded
from pykexec.images.identify import identify
from pykexec.machine import Machine
from pykexec.placement.bind import BoundPlan, bind
from pykexec.placement.kernel_rules import Check, check_plan, refuse_broken
from pykexec.placement.plan import ImageKind, LoadRequest, PlacementPlan, segment_table
from pykexec.placement.plan_load import plan_load
from pykexec.placement.segment import SegmentTable


@dataclass(frozen=True)
class Planned:
    """Everything that is known before anything happens."""

    plan: PlacementPlan
    table: SegmentTable
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class LoadedPlan:
    """What was done; `bound` for a crash by normal."""

    planned: Planned
    loaded: Loaded
    bound: BoundPlan | None = None


def plan(
    kernel: str | os.PathLike[str],
    machine: Machine,
    request: LoadRequest,
    image_type: str | None = None,
) -> Planned:
    """Decide and check, without any effect. Raises KexecError with the first refusal."""
    decided = plan_load(identify(kernel, image_type), machine, request)
    checks = check_plan(decided, machine)
    refuse_broken(checks)
    return Planned(decided, segment_table(decided), checks)


def load(
    kernel: str | os.PathLike[str],
    backend: Backend,
    request: LoadRequest,
    image_type: str | None = None,
) -> LoadedPlan:
    """Plan and load. When the headers cannot be bound, the image is unloaded again:
    nothing is left half done."""
    machine = backend.machine()
    planned = plan(kernel, machine, replace(request, rng_seed=os.urandom(32)), image_type)
    loaded = backend.load(planned.table)
    if request.kind is not ImageKind.CRASH_BY_NORMAL or loaded.backup_map is None:
        return LoadedPlan(planned, loaded)
    try:
        bound = bind(planned.plan, machine, loaded.backup_map, loaded.vmcoreinfo_note)
        backend.bind_headers(bound.headers_at.start, bound.sealed)
    except BaseException:
        backend.unload(loaded.slot)
        raise
    return LoadedPlan(planned, loaded, bound)
