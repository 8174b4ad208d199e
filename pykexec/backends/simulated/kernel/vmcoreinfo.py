"""The VMCOREINFO note of the first kernel: kernel/crash_core.c:crash_save_vmcoreinfo_init.

Symbols and offsets are those of a 6.1 kernel for x86_64; addresses follow from the place of its
image. Readers need them to exist and to be consistent.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from pykexec.abi.x86.page import PAGE_SIZE
from pykexec.abi.x86.x86_64 import START_KERNEL_MAP
from pykexec.crash.notes import VMCOREINFO, Note

if TYPE_CHECKING:
    from pykexec.backends.simulated.kernel.layout import Layout

TEXT_WITHOUT_KASLR = 0xFFFFFFFF81000000
VIRTUAL_STEP = 0x200000
CRASH_TIME = 1190964010
"""Time of every simulated panic in seconds since the epoch: dumps must not differ from run to
run."""

SYMBOL_OFFSETS = {
    "init_uts_ns": 0x18132C0,
    "_stext": 0x0,
    "node_online_map": 0x1AF5A08,
    "swapper_pg_dir": 0x1810000,
    "vmap_area_list": 0x18B6B10,
    "mem_section": 0x1D5B1A8,
    "init_top_pgt": 0x1810000,
    "kallsyms_names": 0x126D5B0,
    "kallsyms_token_table": 0x14B3FD0,
    "kallsyms_token_index": 0x14B4330,
}
"""Offsets from _text in bytes; scaled down for a smaller image."""
FULL_IMAGE = 48 << 20

FIXED_LINES = """\
LENGTH(mem_section)=2048
SIZE(mem_section)=16
OFFSET(mem_section.section_mem_map)=0
NUMBER(SECTION_SIZE_BITS)=27
NUMBER(MAX_PHYSMEM_BITS)=46
SIZE(page)=64
SIZE(pglist_data)=173696
SIZE(zone)=1664
SIZE(free_area)=104
SIZE(list_head)=16
SIZE(nodemask_t)=128
OFFSET(page.flags)=0
OFFSET(page._refcount)=52
OFFSET(page.mapping)=24
OFFSET(page.lru)=8
OFFSET(page._mapcount)=48
OFFSET(page.private)=40
OFFSET(page.compound_head)=8
OFFSET(pglist_data.node_zones)=0
OFFSET(pglist_data.nr_zones)=172904
OFFSET(pglist_data.node_start_pfn)=172912
OFFSET(pglist_data.node_spanned_pages)=172928
OFFSET(pglist_data.node_id)=172936
OFFSET(zone.free_area)=192
OFFSET(zone.vm_stat)=1472
OFFSET(zone.spanned_pages)=120
OFFSET(free_area.free_list)=0
OFFSET(list_head.next)=0
OFFSET(list_head.prev)=8
OFFSET(vmap_area.va_start)=0
OFFSET(vmap_area.list)=40
LENGTH(zone.free_area)=11
LENGTH(free_area.free_list)=6
NUMBER(NR_FREE_PAGES)=0
NUMBER(PG_lru)=4
NUMBER(PG_private)=13
NUMBER(PG_swapcache)=10
NUMBER(PG_swapbacked)=19
NUMBER(PG_slab)=9
NUMBER(PG_hwpoison)=23
NUMBER(PG_head_mask)=65536
NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-129
NUMBER(HUGETLB_PAGE_DTOR)=2
NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)=-257
"""


def kernel_base(layout: Layout) -> int:
    """Virtual address of _text, moved by the distance of the image from 16 MiB, modulo 1 GiB."""
    moved = layout.kernel_image.ranges[0].start // VIRTUAL_STEP * VIRTUAL_STEP
    return TEXT_WITHOUT_KASLR + moved % (512 << 20)


def _build_id(layout: Layout) -> str:
    """40 hexadecimal digits, the same for the same release."""
    return hashlib.sha1(layout.release.encode(), usedforsecurity=False).hexdigest()


def _vmcoreinfo_text(layout: Layout, *, crashed: bool) -> str:
    """KEY=VALUE lines; with CRASHTIME once the kernel has panicked."""
    base = kernel_base(layout)
    image = layout.kernel_image.ranges[0]
    scale = min(image.size, FULL_IMAGE) / FULL_IMAGE
    phys_base = image.start - (base - START_KERNEL_MAP)
    lines = [
        f"OSRELEASE={layout.release}",
        f"BUILD-ID={_build_id(layout)}",
        f"PAGESIZE={PAGE_SIZE}",
    ]
    for name, offset in SYMBOL_OFFSETS.items():
        lines.append(f"SYMBOL({name})={base + int(offset * scale) // 16 * 16:x}")
    lines += FIXED_LINES.splitlines()
    lines += [
        f"NUMBER(phys_base)={phys_base}",
        "NUMBER(pgtable_l5_enabled)=0",
        f"KERNELOFFSET={base - TEXT_WITHOUT_KASLR:x}",
        f"NUMBER(KERNEL_IMAGE_SIZE)={1 << 30}",
        "NUMBER(sme_mask)=0",
    ]
    if crashed:
        lines.append(f"CRASHTIME={CRASH_TIME}")
    return "\n".join(lines) + "\n"


def vmcoreinfo_area(layout: Layout, *, crashed: bool = False) -> bytes:
    """The note as it is in memory: layout.vmcoreinfo.size bytes, padded with zeros."""
    note = Note(VMCOREINFO, 0, _vmcoreinfo_text(layout, crashed=crashed).encode()).encoded
    return note.ljust(layout.vmcoreinfo.size, b"\0")
