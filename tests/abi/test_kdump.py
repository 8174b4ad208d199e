"""The declared headers of dump files, against bytes that module struct builds from the layout of a
64-bit C compiler."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from random import Random

import construct
import pytest

from pykexec.abi import kdump, kdump_parsers
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


# --- the parsers that are kept ---------------------------------------------------------------

WRITTEN = Path(kdump_parsers.__file__)
HEAD = '''\
"""Parsers of the headers that `kdump` declares with construct, whose import would take most of
the time of reading a log. `pytest tests/abi/test_kdump.py --update-golden` writes this module.
"""

from pykexec.abi.parser import Parser
'''


def fields_of(record: construct.Struct) -> Iterator[tuple[str, str]]:
    """(code of struct, name) of each field; padding has no name."""
    for item in record.subcons:
        name, kind = item.name or "", item
        while isinstance(kind, construct.Renamed):
            kind = kind.subcon
        if isinstance(kind, construct.Struct):
            yield from ((code, f"{name}_{inner}") for code, inner in fields_of(kind))
        elif isinstance(kind, construct.Padded):
            yield f"{kind.length}x", ""
        elif isinstance(kind, construct.Bytes):
            yield f"{kind.length}s", name
        else:
            yield kind.fmtstr, name


def parser_of(name: str) -> str:
    """The line that makes the parser of a record."""
    codes, names = zip(*fields_of(getattr(kdump, name)), strict=True)
    orders = {code[0] for code in codes if code[0] in "<>"}
    (order,) = orders
    text = order + "".join(code.lstrip("<>") for code in codes)
    shown = "".join(f'        "{field}",\n' for field in names if field)
    return f'\n{name} = Parser(\n    "{text}",\n    (\n{shown}    ),\n)\n'


def test_the_parsers_are_those_of_the_declarations(request: pytest.FixtureRequest) -> None:
    records = ("disk_dump_header", "kdump_sub_header", "makedumpfile_header")
    text = HEAD + "".join(map(parser_of, records))
    if request.config.getoption("--update-golden"):
        WRITTEN.write_text(text)
    assert WRITTEN.read_text() == text


@pytest.mark.parametrize("name", ["disk_dump_header", "kdump_sub_header", "makedumpfile_header"])
def test_a_parser_reads_what_construct_does(name: str) -> None:
    declared, kept = getattr(kdump, name), getattr(kdump_parsers, name)
    raw = Random(1).randbytes(declared.sizeof())
    expected: dict[str, object] = {}
    for key, value in declared.parse(raw).items():
        if isinstance(value, construct.Container):
            expected |= {f"{key}_{inner}": part for inner, part in value.items() if inner[0] != "_"}
        elif key[0] != "_":
            expected[key] = value
    assert kept.sizeof() == declared.sizeof()
    assert vars(kept.parse(raw + b"more")) == expected
