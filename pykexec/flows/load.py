"""The complete flow of a load, on one page:

bytes -> KernelImage -> Plan -> SegmentTable -> checks (up to here: flows/checked_plan.py)
      -> Backend.load -> Loaded -> BackupMap -> ELF core headers -> Backend.bind_headers

For a panic mode the backup map is known first: the headers are bound, the image is put into the
stage, and finally the stub that has the digests of both is loaded.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from pykexec.backends.backend import Backend, Loaded, StagingBackend
from pykexec.errors import NotSupported
from pykexec.flows.checked_plan import CheckedPlan, decide
from pykexec.frozen import dataclass
from pykexec.images.identify import identify
from pykexec.memory.ranges import RangeSet
from pykexec.placement.bind import BoundPlan, bind
from pykexec.placement.boot_protocol import low_memory
from pykexec.placement.implied import with_implied
from pykexec.placement.initrd import check_initrd
from pykexec.placement.panic_modes import armed_table
from pykexec.placement.plan import PanicPlan, SwitchPlan

if TYPE_CHECKING:
    from pykexec.machine import Machine
    from pykexec.placement.granted import Granted
    from pykexec.placement.request import LoadRequest


@dataclass(frozen=True)
class LoadedPlan:
    """The result of a load; `bound` for a crash by normal."""

    planned: CheckedPlan
    loaded: Loaded
    granted: Granted
    bound: BoundPlan | None = None


def load(
    kernel: str | os.PathLike[str],
    backend: Backend,
    request: LoadRequest,
    image_type: str | None = None,
) -> LoadedPlan:
    """Plan and load. A failure leaves nothing half done."""
    image = identify(kernel, image_type, request.profile)
    complete = with_implied(image, request)
    initrd = check_initrd(image, complete)
    with backend.session():
        machine = backend.machine()
        with backend.granted(image, machine, complete) as granted:
            planned = decide(image, machine, complete, granted, initrd)
            if isinstance(planned.plan, PanicPlan):
                return arm(backend, machine, planned, planned.plan, granted)
            loaded = backend.load(planned.table, planned.plan)
            bound = _bind_loaded(backend, machine, planned, loaded)
        return LoadedPlan(planned, loaded, granted, bound)


def _bind_loaded(
    backend: Backend, machine: Machine, planned: CheckedPlan, loaded: Loaded
) -> BoundPlan | None:
    """Write the finished headers to their place, if the load has backup pages; unload the image
    again if that fails."""
    plan = planned.plan
    if not isinstance(plan, SwitchPlan) or loaded.backup_map is None:
        return None
    ours = RangeSet((plan.headers_at,)) if plan.headers_at else None
    try:
        bound = bind(plan, machine, loaded.backup_map, loaded.vmcoreinfo_note, ours)
        backend.bind_headers(bound.headers_at.start, bound.sealed)
    except BaseException:
        backend.unload(loaded.slot)
        raise
    return bound


def arm(
    backend: Backend, machine: Machine, planned: CheckedPlan, plan: PanicPlan, granted: Granted
) -> LoadedPlan:
    """Put everything that the stub has a digest of in place, then load the stub."""
    if not isinstance(backend, StagingBackend):
        raise NotSupported(
            f"the {backend.name} backend does not support mode {plan.mode}",
            hint="use --backend kernel or another --mode",
        )
    exchanges = plan.stage.exchanges(low_memory(machine))
    note = backend.read_vmcoreinfo(machine)
    bound = bind(plan, machine, exchanges, note, plan.stage.left_out)
    table = armed_table(bound, machine, backend.fill_stage(bound))
    loaded = replace(backend.load(table, plan), backup_map=exchanges)
    return LoadedPlan(replace(planned, table=table), loaded, granted, bound)
