"""The whole flow of a load, on one page:

bytes -> KernelImage -> PlacementPlan -> SegmentTable -> checks -> Backend.load -> Loaded
      -> BackupMap -> ELF core headers -> Backend.bind_headers
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from pykexec.backends.backend import Backend, HeadersWish, Loaded
from pykexec.images.identify import identify
from pykexec.images.kernel_image import KernelImage
from pykexec.machine import Machine
from pykexec.memory.ranges import RangeSet
from pykexec.placement.bind import BoundPlan, bind
from pykexec.placement.crash_by_normal import headers_room
from pykexec.placement.kernel_rules import Check, check_plan, refuse_broken
from pykexec.placement.plan import ImageKind, LoadRequest, PlacementPlan, segment_table
from pykexec.placement.plan_load import plan_load
from pykexec.placement.segment import SegmentTable

RNG_SEED_SIZE = 32


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
    return decide(identify(kernel, image_type), machine, request)


def decide(image: KernelImage, machine: Machine, request: LoadRequest) -> Planned:
    """The plan of a parsed image, with every rule of the kernel checked."""
    decided = plan_load(image, machine, request)
    checks = check_plan(decided, machine)
    refuse_broken(checks)
    return Planned(decided, segment_table(decided), checks)


def load(
    kernel: str | os.PathLike[str],
    backend: Backend,
    request: LoadRequest,
    image_type: str | None = None,
) -> LoadedPlan:
    """Plan and load. Whatever fails, nothing is left half done."""
    image = identify(kernel, image_type)
    with backend.session():
        machine = backend.machine()
        ready = replace(request, rng_seed=os.urandom(RNG_SEED_SIZE))
        if request.kind is ImageKind.CRASH_BY_NORMAL:
            ready = backend.prepare(
                machine, ready, HeadersWish(*headers_room(image, machine, ready))
            )
        try:
            planned = decide(image, machine, ready)
            loaded = backend.load(planned.table, planned.plan)
        except BaseException:
            backend.abandon()
            raise
        return bound_load(backend, machine, planned, loaded)


def bound_load(backend: Backend, machine: Machine, planned: Planned, loaded: Loaded) -> LoadedPlan:
    """With the headers, when the load has backup pages; unloaded again when they cannot be."""
    if planned.plan.mode is None or loaded.backup_map is None:
        return LoadedPlan(planned, loaded)
    ours = planned.plan.request.headers_at
    try:
        bound = bind(
            planned.plan,
            machine,
            loaded.backup_map,
            loaded.vmcoreinfo_note,
            RangeSet((ours,)) if ours else None,
        )
        backend.bind_headers(bound.headers_at.start, bound.sealed)
    except BaseException:
        backend.unload(loaded.slot)
        raise
    return LoadedPlan(planned, loaded, bound)
