"""The variables that a captured guest's kernel uses in its functions: Debian's 6.1, which does not
list them in /proc/kallsyms."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.host.arm64.code_symbols import CRASH_IMAGE, FUNCTIONS, LOADED, LOCKING, RESOURCE
from pykexec.host.captured import Captured, open_root
from pykexec.host.facts import read_machine
from pykexec.host.kernel_map import KALLSYMS, KCORE, kcore_loads
from pykexec.host.module import REGION_SYMBOLS
from pykexec.host.running_kernel import symbol_table


def guest() -> Captured:
    found = open_root(Path(__file__).parent / "virt-no-region.json")
    assert isinstance(found, Captured)
    return found


def raw(path: str) -> bytes:
    data = GUEST.files[path]
    assert isinstance(data, bytes)
    return data


GUEST = guest()
LISTED = raw(KALLSYMS)


def symbols(root: Captured) -> dict[str, int]:
    """Those of the module."""
    table = symbol_table(root, "aarch64", kcore_loads(root)) or {}
    return {name: table[name] for name in REGION_SYMBOLS if name in table}


def image(root: Captured) -> int | None:
    """Where the pointer to the crash image is."""
    table = symbol_table(root, "aarch64", kcore_loads(root)) or {}
    return table.get(CRASH_IMAGE)


FOUND, IMAGE = symbols(GUEST), image(GUEST)


def part_of(name: str) -> str:
    """The captured part of /proc/kcore that has a function."""
    return part_at(function_at(name))


def function_at(name: str) -> int:
    (line,) = [line for line in LISTED.decode().splitlines() if line.endswith(f" {name}")]
    return int(line.split()[0], 16)


def part_at(addr: int) -> str:
    loads = kcore_loads(GUEST)
    assert loads
    load = next(load for load in loads if load.holds(addr, 1))  # the kernel is in vmalloc space too
    start = f"{KCORE}@{load.offset + addr - load.vaddr:#x}+"
    (path,) = [path for path in GUEST.files if path.startswith(start)]
    return path


def changed(path: str, data: bytes) -> Captured:
    return replace(GUEST, files={**GUEST.files, path: data})


def test_the_code_shows_where_they_are() -> None:
    assert FOUND.keys() == set(REGION_SYMBOLS)
    assert b"crashk_res" not in LISTED
    machine = read_machine(GUEST)
    assert machine.symbols == frozenset((*REGION_SYMBOLS, CRASH_IMAGE))
    mapping = machine.kernel_mapping
    assert mapping
    assert IMAGE
    for addr in (*FOUND.values(), IMAGE):
        assert mapping.vaddr <= addr < mapping.vaddr + mapping.range.size


@given(st.sampled_from(FUNCTIONS), st.data())
def test_a_changed_instruction_never_gives_other_addresses(name: str, data: st.DataObject) -> None:
    """At most none."""
    path = part_of(name)
    code = bytearray(raw(path))
    code[data.draw(st.integers(0, len(code) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert symbols(changed(path, bytes(code))) in (FOUND, {})
    assert image(changed(path, bytes(code))) in (IMAGE, None)


@pytest.mark.parametrize("name", LOCKING)
def test_a_function_that_does_not_use_the_lock(name: str) -> None:
    path = part_of(name)
    assert symbols(changed(path, b"\x1f\x20\x03\xd5" * (len(raw(path)) // 4))) == {}


@pytest.mark.parametrize("name", LOCKING)
def test_a_function_that_is_not_listed(name: str) -> None:
    assert symbols(without(name)) == {}


@pytest.mark.parametrize("name", ["crash_shrink_memory", "__crash_kexec", LOADED])
def test_the_image_needs_three_functions_too(name: str) -> None:
    assert image(without(name)) is None


def without(name: str) -> Captured:
    return changed(KALLSYMS, LISTED.replace(f" T {name}\n".encode(), b" T another\n"))


def test_addresses_that_are_hidden() -> None:
    lines = re.sub(rb"^[0-9a-f]+", b"0" * 16, LISTED, flags=re.MULTILINE)
    assert symbols(changed(KALLSYMS, lines)) == {}


def test_a_function_whose_end_is_not_known() -> None:
    lines = b"".join(line for line in LISTED.splitlines(True) if b"crash_s" not in line[17:])
    for name in ("crash_save_cpu", "kernel_kexec", "crash_shrink_memory"):
        lines = b"".join(x for x in lines.splitlines(True) if not x.endswith(f" {name}\n".encode()))
    assert symbols(changed(KALLSYMS, lines)) == {}


FIELDS = ("start", "end", "name", "flags", "desc", "parent")
OTHER = {"end": 0xFFFF, "name": 0, "flags": 0x200, "desc": 3, "parent": 1 << 63}


@pytest.mark.parametrize("field", OTHER)
def test_something_else_where_the_region_would_be(field: str) -> None:
    """Or a region that exists."""
    path = part_at(FOUND["crashk_res"])
    values = list(RESOURCE.unpack(raw(path)))
    values[FIELDS.index(field)] = OTHER[field]
    assert symbols(changed(path, RESOURCE.pack(*values))) == {}


def test_another_name() -> None:
    name = RESOURCE.unpack(raw(part_at(FOUND["crashk_res"])))[2]
    assert symbols(changed(part_at(name), b"System RAM\0\0\0")) == {}


def test_what_the_kernel_lists_is_used() -> None:
    lines = LISTED + b"ffffdad6a54b0000 D crashk_res\nffffdad6a54b1000 B __kexec_lock\n"
    found = symbols(changed(KALLSYMS, lines))
    assert found == {"crashk_res": 0xFFFFDAD6A54B0000, "__kexec_lock": 0xFFFFDAD6A54B1000}


def test_on_x86_nothing_is_guessed() -> None:
    table = symbol_table(GUEST, "x86_64", kcore_loads(GUEST))
    assert table
    assert not table.keys() & set(REGION_SYMBOLS)
