"""The declared headers of dump files, against bytes that module struct builds from the layout of a
64-bit C compiler."""

from __future__ import annotations

import struct

from pykexec.abi.kdump import disk_dump_header, kdump_sub_header, makedumpfile_header

NAMES = (b"Linux", b"node", b"6.1.0", b"#1 SMP", b"x86_64", b"domain")
UTSNAME = b"".join(name.ljust(65, b"\0") for name in NAMES)


def test_the_main_header() -> None:
    raw = struct.pack(
        "@8si390sqqIiiIIIIIIi", b"KDUMP   ", 6, UTSNAME, 1, 2, *range(3, 13)
    )  # fmt: skip
    assert disk_dump_header.sizeof() == len(raw) == 464
    found = disk_dump_header.parse(raw)
    assert (found.signature, found.header_version) == (b"KDUMP   ", 6)
    assert found.utsname.machine == b"x86_64".ljust(65, b"\0")
    assert list(found)[-12:] == [
        *("tv_sec", "tv_usec", "status", "block_size", "sub_hdr_size", "bitmap_blocks"),
        *("max_mapnr", "total_ram_blocks", "device_blocks", "written_blocks", "current_cpu"),
        "nr_cpus",
    ]
    assert list(found.values())[-12:] == list(range(1, 13))


def test_the_sub_header() -> None:
    raw = struct.pack("@Qii11Q", *range(1, 15))
    assert kdump_sub_header.sizeof() == len(raw) == 104
    found = kdump_sub_header.parse(raw)
    assert [name for name in found if name != "_io"] == [
        *("phys_base", "dump_level", "split", "start_pfn", "end_pfn"),
        *("offset_vmcoreinfo", "size_vmcoreinfo", "offset_note", "size_note"),
        *("offset_eraseinfo", "size_eraseinfo", "start_pfn_64", "end_pfn_64", "max_mapnr_64"),
    ]
    assert list(found.values())[-14:] == list(range(1, 15))


def test_the_header_of_a_flattened_file() -> None:
    raw = struct.pack(">16sqq", b"makedumpfile", 1, 2)
    found = makedumpfile_header.parse(raw)
    assert (found.signature, found.type, found.version) == (b"makedumpfile\0\0\0\0", 1, 2)
    assert makedumpfile_header.sizeof() == len(raw)
