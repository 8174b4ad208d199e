"""The same load by kexec-tools and by pykexec: the same places and the same bytes, except for
intentional differences, which are listed here with their reasons."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pykexec.abi.kexec import KexecFlag
from pykexec.flows.checked_plan import CheckedPlan, plan
from pykexec.host.facts import read_machine
from pykexec.host.root import Folder
from pykexec.images.contents import Contents, joined_initrd
from pykexec.memory.map import MemoryMap
from pykexec.placement.request import LoadRequest
from pykexec.placement.segment import Segment
from tests.builders import GIB, MIB, ram, reserved, write
from tests.placement import names
from tests.vm.supplies import Program

from .kexec_tools import OracleLoad, OracleSegment, kexec_load, machine_tree

APPEND = "root=/dev/vda1 ro quiet"
RAMDISK, EXT_RAMDISK = 0x218, 0xC0
CMDLINE_PTR, EXT_CMDLINE_PTR, SETUP_DATA = 0x228, 0xC8, 0x250
KEXEC_ARCH_X86_64 = 62 << 16
E820_ENTRIES, E820_TABLE, E820_SIZE = 0x1E8, 0x2D0, 20

ON_PURPOSE = {
    (0x000, 0x020): "without a framebuffer kexec-tools makes up a VGA text console; pykexec "
    "hands on what the running kernel has",
    (0x020, 0x024): "cl_magic, cl_offset: a command line by protocol 2.01 and older",
    (0x1E0, 0x1E4): "alt_mem_k: the size of memory as it was told before there was e820",
    (0x1F2, 0x1F4): "root_flags: kexec-tools overwrites the image's",
    (0x1FC, 0x1FE): "root_dev: likewise",
    (0x1FE, 0x200): "boot_flag: likewise; it clears half of 0xaa55",
    (0x211, 0x212): "loadflags: kexec-tools clears them; pykexec keeps the image's LOADED_HIGH",
    (CMDLINE_PTR, CMDLINE_PTR + 4): "an address, and the segments lie elsewhere",
    (EXT_CMDLINE_PTR, EXT_CMDLINE_PTR + 4): "likewise",
    (SETUP_DATA, SETUP_DATA + 8): "likewise",
    (E820_TABLE, E820_TABLE + 16): "kexec-tools lets the first range of RAM start at 0x400",
}
"""Bytes of boot_params that may differ."""

PC = MemoryMap.of(
    [
        *ram((0, 0x9FC00), (MIB, 0x7FFE0000), (4 * GIB, 6 * GIB)),
        *reserved((0x9FC00, 0xA0000), (0xF0000, MIB), (0x7FFE0000, 2 * GIB)),
    ]
)
SMALL = MemoryMap.of([*ram((0, 0x9F000), (MIB, 256 * MIB)), *reserved((0xF0000, MIB))])
HOLES = MemoryMap.of(
    [
        *ram((0, 0x9FC00), (MIB, 96 * MIB), (128 * MIB, 300 * MIB), (301 * MIB, 310 * MIB)),
        *reserved((0x9FC00, 0xA0000), (96 * MIB, 128 * MIB), (300 * MIB, 301 * MIB)),
    ]
)


@dataclass(frozen=True)
class Case:
    """One load; the addresses are None if no window is requested."""

    memory_map: MemoryMap
    initrd_size: int = 0
    mem_min: int | None = None
    mem_max: int | None = None
    append: str = APPEND
    above_kernel: bool = False
    """The initrd fits between the kernel and boot_params, directly below the latter."""


CASES = {
    "kernel alone": Case(PC),
    "with an initrd": Case(PC, 0x300001),
    "an initrd of whole pages": Case(PC, 0x300000),
    "an initrd that fits above the kernel": Case(PC, 1, above_kernel=True),
    "no command line": Case(PC, 0x300001, append=""),
    "a small machine": Case(SMALL, 0x300001),
    "holes, some too small": Case(HOLES, 0x2000001),
    "below an address": Case(PC, 0x300001, mem_max=0x3FFFFFFF),
    "above an address": Case(PC, 0x300001, mem_min=0x40000000),
    "in a window": Case(PC, 0x300001, 0x20000000, 0x2FFFFFFF),
    "a window that ends within a page": Case(PC, 0x300001, 0x20000000, 0x2FFFF7FF),
}


@dataclass(frozen=True)
class Both:
    """The load as prepared by both."""

    case: Case
    theirs: OracleLoad
    ours: CheckedPlan
    their_params: OracleSegment = field(init=False)

    def __post_init__(self) -> None:
        found = [s for s in self.theirs.segments if s.buf[0x202:0x206] == b"HdrS"]
        assert len(found) == 1
        object.__setattr__(self, "their_params", found[0])

    def segment(self, name: str) -> Segment:
        (placed,) = [item for item in self.ours.plan if item.name == name]
        return next(s for s in self.ours.table.segments if s.mem == placed.range.start)

    @property
    def params(self) -> bytes:
        return all_bytes(self.segment(names.BOOT_PARAMS).buf)


def all_bytes(contents: Contents | None) -> bytes:
    assert contents is not None
    return b"".join(bytes(chunk) for chunk in contents.chunks())


def u64(page: bytes, offset: int) -> int:
    return int(struct.unpack_from("<Q", page, offset)[0])


def address(page: bytes, low: int, high: int) -> int:
    """An address that boot_params has in two halves."""
    (low_half,), (high_half,) = (struct.unpack_from("<I", page, at) for at in (low, high))
    return int(low_half | high_half << 32)


@pytest.fixture(scope="module", params=list(CASES.values()), ids=list(CASES))
def both(
    request: pytest.FixtureRequest,
    debian_kernel: Path,
    kexec: Program,
    shim: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Both:
    case: Case = request.param
    folder = tmp_path_factory.mktemp("oracle")
    tree = machine_tree(folder / "machine", case.memory_map, "first=kernel")
    words = [str(debian_kernel), f"--append={case.append}"]
    initrds: tuple[Path, ...] = ()
    if case.initrd_size:
        pattern = bytes(range(256)) * (case.initrd_size // 256 + 1)
        initrds = (write(folder, "initrd", pattern[: case.initrd_size]),)
        words.append(f"--initrd={initrds[0]}")
    if case.mem_min is not None:
        words.append(f"--mem-min={case.mem_min:#x}")
    if case.mem_max is not None:
        words.append(f"--mem-max={case.mem_max:#x}")
    ours = LoadRequest(
        initrd=joined_initrd(initrds),
        append=(case.append,) if case.append else (),
        mem_min=case.mem_min,
        mem_max=case.mem_max,
    )
    return Both(
        case,
        kexec_load(kexec, shim, tree, *words),
        plan(debian_kernel, read_machine(Folder(tree)), ours),
    )


def test_the_kernel_is_the_same(both: Both) -> None:
    """Address, both sizes and every byte."""
    ours = both.segment(names.KERNEL)
    theirs = both.theirs.around(ours.mem)
    assert (ours.mem, ours.memsz, ours.bufsz) == theirs.place
    assert all_bytes(ours.buf) == theirs.buf


def test_the_initrd_is_the_same(both: Both) -> None:
    if not both.case.initrd_size:
        assert names.INITRD not in [item.name for item in both.ours.plan]
        return
    ours = both.segment(names.INITRD)
    theirs = both.theirs.around(address(both.their_params.buf, RAMDISK, EXT_RAMDISK))
    assert (ours.memsz, all_bytes(ours.buf)) == (theirs.memsz, theirs.buf)
    if both.case.above_kernel:
        assert ours.mem + ours.memsz == both.segment(names.BOOT_PARAMS).mem
        assert theirs.mem + theirs.memsz == both.their_params.mem
    else:
        assert ours.mem == theirs.mem


def test_purgatory_and_boot_params_by_the_same_rules(both: Both) -> None:
    """Purgatory at the top, boot_params directly below it. The sizes differ: pykexec's stub is
    smaller, and its command line directly follows the zero page, while that of kexec-tools follows
    space for the complete setup code of the image."""
    stub, params = both.segment(names.PURGATORY), both.segment(names.BOOT_PARAMS)
    their_stub = both.theirs.around(both.theirs.entry)
    assert stub.mem + stub.memsz == their_stub.mem + their_stub.memsz
    assert params.mem + params.memsz == stub.mem
    assert both.their_params.mem + both.their_params.memsz == their_stub.mem
    assert stub.mem <= both.ours.plan.entry < stub.mem + stub.memsz


def test_fewer_segments(both: Both) -> None:
    """setup_data (the random seed) is a separate segment in kexec-tools, and part of boot_params in
    pykexec, which leaves one more of 16 segments. There is no other difference."""
    assert len(both.theirs.segments) == len(both.ours.table.segments) + 1
    seed = both.theirs.around(u64(both.their_params.buf, SETUP_DATA))
    assert len(seed.buf) == 16 + 32


def test_flags(both: Both) -> None:
    """A normal load has none; the code that makes the system call adds the architecture."""
    assert both.ours.plan.flags == KexecFlag(0)
    assert both.theirs.flags == KEXEC_ARCH_X86_64


def test_boot_params_but_for_what_differs_on_purpose(both: Both) -> None:
    ours, theirs = both.params, both.their_params.buf
    excused = [*ON_PURPOSE, (RAMDISK, RAMDISK + 4)] if both.case.above_kernel else [*ON_PURPOSE]
    wrong = {
        hex(offset): (ours[offset], theirs[offset])
        for offset in range(4096)
        if ours[offset] != theirs[offset]
        and not any(start <= offset < end for start, end in excused)
    }
    assert wrong == {}


def test_the_command_line_is_the_same(both: Both) -> None:
    ours, theirs = both.params, both.their_params
    at = address(ours, CMDLINE_PTR, EXT_CMDLINE_PTR)
    their_at = address(theirs.buf, CMDLINE_PTR, EXT_CMDLINE_PTR)
    line = ours[at - both.segment(names.BOOT_PARAMS).mem :].split(b"\0")[0]
    assert line == theirs.buf[their_at - theirs.mem :].split(b"\0")[0]
    assert line == both.case.append.encode()


def test_the_random_seed_is_the_same_kind_of_node(both: Both) -> None:
    params = both.segment(names.BOOT_PARAMS)
    at, their_at = u64(both.params, SETUP_DATA), u64(both.their_params.buf, SETUP_DATA)
    theirs = both.theirs.around(their_at)
    assert both.params[at - params.mem :][:16] == theirs.buf[:16]


def test_the_first_e820_entry(both: Both) -> None:
    """The one entry that differs: all RAM from 0 in pykexec, from 0x400 in kexec-tools, to the same
    end."""
    entries = [
        struct.unpack_from("<QQI", page, E820_TABLE)
        for page in (both.params, both.their_params.buf)
    ]
    (start, size, kind), (their_start, their_size, their_kind) = entries
    assert (start, their_start) == (0, 0x400)
    assert (start + size, kind) == (their_start + their_size, their_kind)


def test_every_difference_is_still_one(both: Both) -> None:
    """The table does not allow more than necessary (two rows depend on the case)."""
    ours, theirs = both.params, both.their_params.buf
    same = [span for span in ON_PURPOSE if ours[slice(*span)] == theirs[slice(*span)]]
    assert set(same) <= {(EXT_CMDLINE_PTR, EXT_CMDLINE_PTR + 4)}


CUT = MemoryMap.of(
    [*ram((0x1000, 0x9FC00), (MIB, 640 * MIB)), *reserved((0x9FC00, 0xA0000), (0xF0000, MIB))]
)
"""/proc/iomem with mem=640M."""


def test_after_mem_the_next_kernel_is_given_all_of_memory(
    debian_kernel: Path, kexec: Program, shim: Path, tmp_path: Path
) -> None:
    tree = machine_tree(tmp_path / "machine", PC, "mem=640M", CUT)
    theirs = kexec_load(kexec, shim, tree, str(debian_kernel), "--append=ro")
    ours = plan(debian_kernel, read_machine(Folder(tree)), LoadRequest(append=("ro",)))
    their_page = next(s.buf for s in theirs.segments if s.buf[0x202:0x206] == b"HdrS")
    (params,) = [item for item in ours.plan if item.name == names.BOOT_PARAMS]
    our_page = all_bytes(params.contents)
    count = our_page[E820_ENTRIES]
    assert their_page[E820_ENTRIES] == count == len(PC.ranges)
    behind_first = slice(E820_TABLE + E820_SIZE, E820_TABLE + count * E820_SIZE)
    assert our_page[behind_first] == their_page[behind_first]
    assert all(item.range.end <= 640 * MIB for item in ours.plan)
