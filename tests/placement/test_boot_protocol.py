"""Which protocol a machine has, and that 32-bit hosts have the same one with other numbers."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from pykexec.arch import ARM64, I386, X86_64, Arch
from pykexec.machine import NOT_READ, Machine, Unknown
from pykexec.memory.ranges import PhysRange
from pykexec.placement.boot_protocol import BootProtocol, boot_protocol, low_memory
from tests.builders import pc_map

MACHINE = Machine("test", memory_map=pc_map())


@pytest.mark.parametrize(
    ("uname", "arch"),
    [("x86_64", X86_64), ("i686", I386), ("i486", I386), ("aarch64", ARM64), (NOT_READ, X86_64)],
)
def test_the_architecture_selects(uname: str | Unknown, arch: Arch) -> None:
    """x86_64's images can be planned and rehearsed on any machine."""
    machine = replace(MACHINE, architecture=uname, page_size=arch.page_size)
    assert boot_protocol(machine).arch == arch


def test_destinations_end_where_the_kernel_takes_no_more() -> None:
    """The last page below KEXEC_DESTINATION_MEMORY_LIMIT is one that it does not take."""
    of_64, of_32 = (
        boot_protocol(replace(MACHINE, architecture=name)).limits for name in ("x86_64", "i686")
    )
    assert of_64.destinations == PhysRange(0x1000, 0x3FFF_FFFF_F000)
    assert of_32.destinations == PhysRange(0x1000, 0xFFFF_F000)
    assert replace(of_32, destinations=of_64.destinations) == of_64


def test_low_memory_is_ram_in_whole_pages() -> None:
    assert low_memory(MACHINE).within(PhysRange(0, 0x1000)).size == 0
    assert low_memory(MACHINE).ranges[-1].end <= 0xA0000
    assert low_memory(MACHINE).size > 0


def test_the_page_for_another_architecture_lists_every_member() -> None:
    page = (Path(__file__).parents[2] / "docs" / "adding-an-architecture.md").read_text()
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    listed = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    members = [name for name in vars(BootProtocol) if not name.startswith("_")]
    assert sorted(listed) == sorted(members)
