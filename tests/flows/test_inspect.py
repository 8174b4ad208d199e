"""What a file is: all kinds are distinguished; and the vmlinux in a bzImage."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from pykexec.abi.elf import PHDR, PT_LOAD
from pykexec.abi.x86.bootparam import SETUP_HEADER_OFFSET, setup_header
from pykexec.arch import X86_64
from pykexec.crash import elfcorehdr
from pykexec.crash.elfcorehdr import OldMemory
from pykexec.errors import KexecError, NotSupported
from pykexec.flows.inspect import CoreHeaders, OldRange, extract_vmlinux, inspect_file
from pykexec.images.contents import UnreadableFile, contents_bytes
from pykexec.images.identify import identify
from pykexec.images.initrd import Initrd
from pykexec.images.kernel_image import KernelImage, NotAnImage
from pykexec.images.x86.packed_vmlinux import NoVmlinux
from pykexec.images.x86.zero_page import ZeroPage
from pykexec.machine import NoteArea
from pykexec.memory.ranges import PhysRange
from pykexec.placement.plan_load import plan_load
from pykexec.placement.request import LoadRequest
from tests.builders import (
    MIB,
    make_bzimage,
    make_cpio,
    make_elf,
    make_machine,
    make_uki,
    make_vmlinux,
    pack,
    write,
)
from tests.images.fixtures import FIXTURES
from tests.placement import names


def a_zero_page(folder: Path) -> bytes:
    """As a plan makes it."""
    image = identify(write(folder, "kernel", make_bzimage()))
    plan = plan_load(image, make_machine(), LoadRequest(append=("quiet",)))
    item = plan.named(names.BOOT_PARAMS)
    assert item is not None
    assert item.contents is not None
    return contents_bytes(item.contents, MIB)[:4096]


def core_headers() -> bytes:
    return elfcorehdr.build(
        0x6F000000,
        [NoteArea(0x1100000, 0x168)],
        [OldMemory(0x1000, 0x6F010000, 0x9E000), OldMemory(0x100000, 0x100000, 0x6EF00000)],
        arch=X86_64,
        page_offset_base=0xFFFF888000000000,
    )


@pytest.mark.parametrize("name", FIXTURES)
def test_a_kernel_image_is_found_in_time(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, "k", FIXTURES[name])
    taken = []
    for _ in range(3):
        started = time.process_time()
        found = inspect_file(path)
        taken.append(time.process_time() - started)
    assert min(taken) < 0.15
    assert isinstance(found, KernelImage)
    assert found.type == name


def test_an_initrd(tmp_path: Path) -> None:
    cpio = make_cpio(("init", b"x"))
    for data in (cpio, pack(cpio, "xz")):
        found = inspect_file(write(tmp_path, "i", data))
        assert isinstance(found, Initrd)
        assert found.unpacked == len(cpio)


def test_a_zero_page(tmp_path: Path) -> None:
    found = inspect_file(write(tmp_path, "boot_params", a_zero_page(tmp_path)))
    assert isinstance(found, ZeroPage)
    assert (found.protocol, found.type_of_loader) == (0x20F, 0xD0)
    assert (found.init_size, found.pref_address) == (0x100000, 0x1000000)
    assert found.cmd_line_ptr % 0x1000 == 0
    assert found.setup_data == found.cmd_line_ptr + 0x10
    first = found.e820[0]
    assert (first.start, first.end, first.type) == (0, 0x9FC00, "RAM")
    assert len(found.e820) == 5
    assert (found.efi, found.screen) == (None, None)


def test_a_zero_page_of_a_loader_without_a_header(tmp_path: Path) -> None:
    raw = bytearray(a_zero_page(tmp_path))
    raw[0x1F1:0x290] = bytes(0x290 - 0x1F1)
    assert isinstance(inspect_file(write(tmp_path, "p", bytes(raw))), ZeroPage)
    raw[0x1E8] = 0
    with pytest.raises(KexecError):
        inspect_file(write(tmp_path, "p", bytes(raw)))


def test_the_first_page_of_a_kernel_is_no_zero_page(tmp_path: Path) -> None:
    """As from `head -c 4096 vmlinuz`: the sentinel is still set."""
    raw = bytearray(make_bzimage(setup_sects=20)[:4096])
    raw[0x1EF] = 0xFF
    with pytest.raises(NotAnImage, match="not a bzImage64: truncated"):
        inspect_file(write(tmp_path, "k", bytes(raw)))


def test_an_empty_load_is_none(tmp_path: Path) -> None:
    """With --hotplug the kernel pads with some: zeros up to its own count."""
    raw = bytearray(core_headers())
    raw[56:58] = (4).to_bytes(2, "little")
    raw = raw[: 64 + 3 * 56] + PHDR.pack(PT_LOAD, 7, 0, 0, 0, 0, 0, 0) + raw[64 + 3 * 56 :]
    found = inspect_file(write(tmp_path, "h", bytes(raw)))
    assert isinstance(found, CoreHeaders)
    assert (found.program_headers, len(found.loads)) == (4, 2)


def test_core_headers(tmp_path: Path) -> None:
    found = inspect_file(write(tmp_path, "elfcorehdr", core_headers()))
    assert found == CoreHeaders(
        program_headers=3,
        notes=(PhysRange.sized(0x1100000, 0x168),),
        loads=(
            OldRange(0x1000, 0x6F010000, 0x9E000),
            OldRange(0x100000, 0x100000, 0x6EF00000),
        ),
        moved=0x9E000,
        overlaps=0,
    )
    assert found.memory == 0x6EF00000 + 0x9E000


def test_an_asked_for_type_is_taken(tmp_path: Path) -> None:
    path = write(tmp_path, "k", make_bzimage())
    found = inspect_file(path, "bzImage")
    assert isinstance(found, KernelImage)
    assert found.type == "bzImage"


# -- extract


def bzimage_with(inner: bytes, **change: Any) -> bytes:
    """A bzImage with `inner` as its compressed kernel."""
    payload = b"\xf4" * 0x1000 + inner
    data = bytearray(make_bzimage(payload, **change))
    header = setup_header.parse(bytes(data[SETUP_HEADER_OFFSET:]))
    header.payload_offset, header.payload_length = 0x1000, len(inner)
    built = setup_header.build(header)
    data[SETUP_HEADER_OFFSET : SETUP_HEADER_OFFSET + len(built)] = built
    return bytes(data)


VMLINUX = make_vmlinux()


@pytest.mark.parametrize("codec", ["gzip", "xz", "lzma", "bzip2", "zstd", "lz4 (legacy)"])
def test_the_vmlinux_in_a_bzimage(tmp_path: Path, codec: str) -> None:
    packed = pack(VMLINUX, codec) + len(VMLINUX).to_bytes(4, "little")
    path = write(tmp_path, "vmlinuz", bzimage_with(packed, init_size=MIB))
    out = tmp_path / "vmlinux"
    assert extract_vmlinux(path, out).type == "bzImage64"
    assert out.read_bytes() == VMLINUX
    assert identify(out).type == "vmlinux"


def test_the_type_that_is_asked_for_counts(tmp_path: Path) -> None:
    path = write(tmp_path, "vmlinuz", bzimage_with(pack(VMLINUX, "gzip"), init_size=MIB))
    assert extract_vmlinux(path, tmp_path / "out", "bzImage").type == "bzImage"
    with pytest.raises(NotAnImage):
        extract_vmlinux(path, tmp_path / "other", "uki")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    "data",
    [
        bzimage_with(VMLINUX, init_size=MIB),
        VMLINUX,
        pack(VMLINUX, "xz"),
        make_uki(bzimage_with(pack(VMLINUX, "gzip"), init_size=MIB)),
        bzimage_with(pack(VMLINUX, "gzip"), init_size=MIB, xloadflags=0),
    ],
    ids=["not compressed", "a vmlinux", "a wrapped vmlinux", "a UKI", "a 32-bit bzImage"],
)
def test_wherever_it_is(tmp_path: Path, data: bytes) -> None:
    out = tmp_path / "vmlinux"
    extract_vmlinux(write(tmp_path, "k", data), out)
    assert out.read_bytes() == VMLINUX


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (make_bzimage(), "the header does not contain the address of the packed kernel"),
        (bzimage_with(b"what is this?" * 9), "the compression of the packed kernel is unknown"),
        (bzimage_with(pack(b"text", "gzip")), "the packed kernel is not an ELF file"),
        (make_elf(), "an image of type elf-x86_64 contains no vmlinux"),
        (FIXTURES["arm64-image"], "an image of type arm64-image contains no vmlinux"),
    ],
)
def test_where_there_is_none(tmp_path: Path, data: bytes, reason: str) -> None:
    path = write(tmp_path, "k", data)
    with pytest.raises(NoVmlinux) as caught:
        extract_vmlinux(path, tmp_path / "out")
    assert caught.value.message == f"{path}: {reason}"
    assert isinstance(caught.value, NotSupported)
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    out = write(tmp_path, "out", b"mine")
    with pytest.raises(UnreadableFile, match="out: cannot be written: File exists"):
        extract_vmlinux(write(tmp_path, "k", VMLINUX), out)
    assert out.read_bytes() == b"mine"
