"""Every fixed address and limit of a load on arm64, each with its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.memory.ranges import GIB, MIB, PhysRange
from pykexec.placement.limits import Limits
from pykexec.purgatory.arm64.stub import ADDRESS_LIMIT

if TYPE_CHECKING:
    from pykexec.arch import Arch
    from pykexec.machine import Machine

BELOW_4G = PhysRange(0, 4 * GIB)
"""A capture kernel without RAM here has no memory for devices that reach no further. Some machines
have none."""

WINDOW_ALIGN = 2 * MIB
"""Alignment of a window in bytes: whole huge pages, and the base of an Image
(Documentation/arch/arm64/booting.rst)."""


def arch_of(machine: Machine) -> Arch:
    """The machine's architecture, with the size of its pages. Raises NotSupported if that is
    unknown."""
    return machine.known_arch


def limits_of(arch: Arch) -> Limits:
    """The limits of a load. The kernel accepts any page; the first one is not used, because an
    address of 0 means "none" in too many places.

    A capture kernel maps its ELF core headers as part of its memory
    (arch/arm64/mm/init.c:arm64_memblock_init removes everything else before it is reserved). After
    a panic the other CPUs are switched off (arch/arm64/kernel/smp.c:ipi_cpu_crash_stop). Memory
    that was there at boot cannot be taken offline, and so cannot be made movable
    (arch/arm64/mm/mmu.c:prevent_bootmem_remove_notifier).
    """
    reachable = PhysRange(arch.page_size, ADDRESS_LIMIT)
    return Limits(
        destinations=reachable,
        window=reachable,
        preferred=BELOW_4G,
        window_align=WINDOW_ALIGN,
        low_memory=None,
        why_low="",
        low_end=0,
        kernel_floor=0,
        purgatory_min=0,
        headers_min=0,
        uart_in_memory=True,
        headers_inside=True,
        cpus_sleep=False,
        zones_to_lend=(),
        clock="counter",
    )
