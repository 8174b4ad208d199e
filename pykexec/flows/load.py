"""The whole flow of a load, on one page:

bytes -> KernelImage -> PlacementPlan -> SegmentTable -> checks (all that: decide.py)
      -> Backend.load -> Loaded -> BackupMap -> ELF core headers -> Backend.bind_headers

For a panic mode the backup map is known first: the headers are bound, the image is put
into the stage, and last of all the stub that vouches for both is loaded.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from pykexec.backends.backend import Backend, Loaded, Prepared, StagingBackend
from pykexec.errors import NotSupported
from pykexec.flows.plan import Planned, decide
from pykexec.images.identify import identify
from pykexec.machine import Machine
from pykexec.memory.ranges import RangeSet
from pykexec.placement.bind import BoundPlan, bind
from pykexec.placement.fill import low_memory
from pykexec.placement.implied import with_implied
from pykexec.placement.initrd import check_initrd
from pykexec.placement.panic_modes import armed_table
from pykexec.placement.plan import ImageKind, LoadRequest
from pykexec.placement.stage import StageFrames

RNG_SEED_SIZE = 32


@dataclass(frozen=True)
class LoadedPlan:
    """What was done; `bound` for a crash by normal."""

    planned: Planned
    loaded: Loaded
    prepared: Prepared
    bound: BoundPlan | None = None


def load(
    kernel: str | os.PathLike[str],
    backend: Backend,
    request: LoadRequest,
    image_type: str | None = None,
) -> LoadedPlan:
    """Plan and load. Whatever fails, nothing is left half done."""
    image = identify(kernel, image_type, request.profile)
    wishes = with_implied(image, request)
    initrd = check_initrd(image, wishes)
    with backend.session():
        machine = backend.machine()
        prepared = Prepared(replace(wishes, rng_seed=os.urandom(RNG_SEED_SIZE)))
        if request.kind is ImageKind.CRASH_BY_NORMAL:
            prepared = backend.prepare(image, machine, prepared.request)
        try:
            planned = decide(image, machine, prepared.request, initrd)
            if planned.plan.stage:
                return arm(backend, machine, planned, prepared, planned.plan.stage)
            loaded = backend.load(planned.table, planned.plan)
        except BaseException:
            if request.kind is ImageKind.CRASH_BY_NORMAL:
                backend.abandon()
            raise
        return bind_loaded(backend, machine, planned, prepared, loaded)


def bind_loaded(
    backend: Backend, machine: Machine, planned: Planned, prepared: Prepared, loaded: Loaded
) -> LoadedPlan:
    """With the headers, when the load has backup pages; unloaded again when they cannot be."""
    if planned.plan.mode is None or loaded.backup_map is None:
        return LoadedPlan(planned, loaded, prepared)
    ours = planned.plan.request.headers_at
    left_out = RangeSet((ours,)) if ours else None
    try:
        bound = bind(planned.plan, machine, loaded.backup_map, loaded.vmcoreinfo_note, left_out)
        backend.bind_headers(bound.headers_at.start, bound.sealed)
    except BaseException:
        backend.unload(loaded.slot)
        raise
    return LoadedPlan(planned, loaded, prepared, bound)


def arm(
    backend: Backend, machine: Machine, planned: Planned, prepared: Prepared, stage: StageFrames
) -> LoadedPlan:
    """Everything that the stub has a digest of is in its place before the stub is loaded."""
    if not isinstance(backend, StagingBackend):
        raise NotSupported(
            f"the {backend.name} backend has no stage for {planned.plan.mode}",
            hint="--backend kernel, or another --mode",
        )
    exchanges = stage.exchanges(low_memory(planned.plan.memory_map))
    note = backend.read_vmcoreinfo(machine)
    bound = bind(planned.plan, machine, exchanges, note, stage.ours)
    table = armed_table(bound, machine, backend.fill_stage(bound))
    loaded = replace(backend.load(table, planned.plan), backup_map=exchanges)
    return LoadedPlan(replace(planned, table=table), loaded, prepared, bound)
