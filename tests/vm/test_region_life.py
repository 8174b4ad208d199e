"""The life of a crash region made at run time: refusals, many cycles, memory in pieces, the
kernel's own release, and loads at the same time. Nothing is reserved at boot."""

from __future__ import annotations

import re
from typing import Any

import pytest

from .guest.region_life import CYCLES, MIB, WHOLE
from .lab import VM
from .product import document, text
from .region_module import INSTALLED, region_files

MOVABLE = "movablecore=512M nokaslr"
"""Half of memory, at its end; the kernel is at the beginning of the other half."""


@pytest.fixture(scope="module")
def life(vm: VM) -> Any:
    result = vm.run(
        f"""
        python3 -m guest.region_life /lib/modules/$(uname -r)/{INSTALLED} \\
            > /out/life.json 2> /out/error || {{ copyout /out; cat /out/error; exit 1; }}
        cat /proc/sys/kernel/tainted > /out/tainted
        copyout /out
        """,
        append=MOVABLE,
        mem_mib=1024,
        smp=2,
        python=True,
        files=region_files(vm.kernel),
        timeout_s=300,
    ).expect(0)
    found = document(result, "first/life.json")
    found["tainted"] = int(text(result, "first/tainted"))
    return found


def test_bad_input_is_refused_with_an_errno_of_its_own(life: Any) -> None:
    assert life["refused"] == {
        "no addresses": "EFAULT",
        "lock as region": "EFAULT",
        "another resource as region": "EFAULT",
        "region as lock": "EFAULT",
        "inside the region": "EFAULT",
        "user memory": "EFAULT",
        "0": "ERANGE",
        "3 KiB": "ERANGE",
        "6 KiB": "ERANGE",
        "5 GiB": "ERANGE",
        "all memory": "ERANGE",
        "half of memory": "ERANGE",
        "not contiguous": "ENOMEM",
        "inserted twice": "EEXIST",
    }


def test_the_kernel_log_has_the_reason_for_each_refusal(life: Any) -> None:
    log = "\n".join(life["log"])
    for reason in (
        "the address of crashk_res is missing",
        "the address passed for crashk_res is that of __kexec_lock+0x0/",
        "the address passed for crashk_res is that of iomem_resource+0x0/",
        "the address passed for __kexec_lock is that of crashk_res+0x0/",
        "the address passed for crashk_res is that of crashk_res+0x8/",
        "a size of 0 bytes is not a multiple of 4096",
        "a size of 3072 bytes is not a multiple of 4096",
        "a size of 5242880 KiB is more than 4 GiB or half of the memory",
        "no 491520 KiB of contiguous memory outside of ZONE_MOVABLE",
    ):
        assert reason in log


def test_refusals_leave_nothing_behind(life: Any) -> None:
    assert life["after refusals"]


def test_cycles_leave_memory_as_it_was(life: Any) -> None:
    assert life["cycles"] == {"results": {"ok": 2 * CYCLES}, "wrong": []}
    assert life["after cycles"]


def test_a_whole_reservation_lies_outside_of_the_movable_zone(life: Any) -> None:
    """The movable zone is at the end of memory, where the search begins."""
    found = life["whole"]
    assert (found["result"], found["released"]) == ("ok", "ok")
    start, end = found["span"]
    assert end - start == WHOLE
    zones = {name: range(first, last) for name, first, last in life["zones"]}
    movable = zones.pop("Movable")
    assert len(movable) >= 400 * MIB
    assert end <= movable.start or movable.stop <= start
    assert any(start in zone and end - 1 in zone for zone in zones.values())


def test_memory_in_pieces_is_moved_together(life: Any) -> None:
    found = life["fragmented"]
    assert found["taken"] > 400 * MIB
    results = {size: found[str(size << 10)][0] for size in (64, 1024, 4096, 65536)}
    assert results == dict.fromkeys(results, "ok")
    assert found["kept"]
    assert life["after fragmentation"]


def test_what_the_kernel_has_released_can_be_made_again(life: Any) -> None:
    assert life["by the kernel"] == {
        "made": "ok",
        "shrunk": "65536",
        "rest released": "ok",
        "after it": "None",
        "made again": "ok",
        "removed without a region": "ok",
        "made over it": "ok",
        "released": "ok",
        "at last": "None",
    }


def test_loads_at_the_same_time_meet_the_kernels_own_refusals_only(life: Any) -> None:
    race = life["race"]
    assert race["loads"]["ok"] > 10
    assert race["regions"]["ok"] > 3
    assert set(race["loads"]) <= {"ok", "unok", "EBUSY", "unEBUSY", "EADDRNOTAVAIL"}
    assert set(race["regions"]) <= {"ok", "unok", "left", "EBUSY", "unENOENT"}


def test_all_memory_is_back_at_the_end(life: Any) -> None:
    for before, after in life["left over"].values():
        assert before == after


def test_the_kernel_complains_about_nothing(life: Any) -> None:
    """Its taint is that of a module out of the tree, unsigned (kernel/module/main.c), and no
    warning's."""
    assert not [line for line in life["log"] if not re.search("pykexec_region: ", line)]
    assert life["tainted"] & ~(1 << 12 | 1 << 13) == 0
