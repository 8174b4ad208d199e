"""A plain load: the next kernel gets all memory; the window only says where its image lies."""

from __future__ import annotations

from dataclasses import replace

from pykexec.abi.kexec import KexecFlag
from pykexec.images.kernel_image import KernelImage
from pykexec.machine import Machine
from pykexec.memory.ranges import ALL_MEMORY
from pykexec.placement import layout
from pykexec.placement.efi import efi_handover
from pykexec.placement.linux_x86_64 import (
    StubDuties,
    boot_params_for,
    entry_of,
    next_command_line,
    place,
    things,
)
from pykexec.placement.plan import LoadRequest, PlacementPlan
from pykexec.placement.space import Space
from pykexec.placement.window import requested_window


def plan_normal(image: KernelImage, machine: Machine, request: LoadRequest) -> PlacementPlan:
    """Raises DoesNotFit, UsageError, or NotSupported for an unknown memory map."""
    memory_map = machine.known_map
    window = requested_window(request)
    free = memory_map.whole_page_ram.without(layout.FIRST_PAGE).within(window or ALL_MEMORY)
    line = next_command_line(image, machine, request)
    params = replace(
        boot_params_for(image, machine, request, line, memory_map),
        efi=efi_handover(machine, image.linux.xloadflags),
    )
    at = place(Space(free), image, request, params.size)
    return PlacementPlan(
        image=image,
        request=request,
        memory_map=memory_map,
        placed=things(image, request, at, params, duties=StubDuties(checks=request.checks)),
        entry=entry_of(request, at),
        boot=at.boot,
        flags=KexecFlag(0),
        cmdline=line,
        capture_map=memory_map,
        window=window,
    )
