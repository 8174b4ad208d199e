"""The life cycle of a crash region made at run time: refusals of the module and of the verbs, many
cycles, fragmented memory, release by the kernel itself, concurrent loads, modules built and
compressed in other ways, and a process that is killed while it makes one. Nothing is reserved at
boot."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import zstandard

from .guest.region_life import CYCLES, MIB, WHOLE
from .guest.region_verbs import KILLS, LARGE, SIGNALS
from .lab import VM
from .machine import Result
from .product import document, site, text
from .region_module import INSTALLED, built_modules, region_files

BUILT = "built.ko"
ZST = "pykexec_region.ko.zst"
MOVABLE = "movablecore=512M nokaslr"
"""The upper half of memory is movable; the kernel is at the beginning of the lower half."""


@pytest.fixture(scope="module")
def result(vm: VM) -> Result:
    modules = built_modules(vm.kernel)
    return vm.run(
        f"""
        module=/lib/modules/$(uname -r)/{INSTALLED}
        python3 -m guest.region_life $module > /out/life.json 2> /out/error || {{
            copyout /out; cat /out/error; exit 1; }}
        cat /proc/sys/kernel/tainted > /out/tainted
        host mark "the verbs"
        python3 -m guest.region_verbs $module /{BUILT} /{ZST} > /out/verbs.json 2> /out/error || {{
            copyout /out; cat /out/error; exit 1; }}
        copyout /out
        """,
        append=MOVABLE,
        mem_mib=1024,
        smp=2,
        python=True,
        site=[*site(), Path(zstandard.__file__).parent],
        files={
            **region_files(vm.kernel),
            f"/{BUILT}": modules.by_verb,
            f"/{ZST}": zstandard.compress(modules.by_dkms.read_bytes()),
        },
        timeout_s=500,
    ).expect(0)


@pytest.fixture(scope="module")
def life(result: Result) -> Any:
    return document(result, "first/life.json")


@pytest.fixture(scope="module")
def verbs(result: Result) -> Any:
    return document(result, "first/verbs.json")


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
    """The movable zone is at the end of memory, where the search starts."""
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


def test_the_kernel_complains_about_nothing(life: Any, result: Result) -> None:
    """Its taint is that of an unsigned out-of-tree module (kernel/module/main.c), without that of a
    warning."""
    assert not [line for line in life["log"] if not re.search("pykexec_region: ", line)]
    assert int(text(result, "first/tainted")) & ~(1 << 12 | 1 << 13) == 0


REFUSALS = {
    "0": (2, "usage"),
    "3K": (2, "bad-region-size"),
    "5G": (6, "region-too-large"),
    "480M": (6, "no-contiguous-memory"),
    "no module": (5, "not-the-module"),
    "another kernel's": (5, "module-of-another-kernel"),
    "untested": (5, "untested-kernel"),
    "wrong addresses": (5, "wrong-kernel"),
    "kptr_restrict": (4, "symbols-hidden"),
    "capability": (4, "modules-refused"),
    "exists": (1, "region-exists"),
    "sig_enforce": (4, "modules-refused"),
    "lockdown": (4, "modules-refused"),
    "modules_disabled": (4, "modules-refused"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_has_its_exit_status_and_leaves_nothing_behind(verbs: Any, name: str) -> None:
    status, code = REFUSALS[name]
    assert verbs["refusals"][name] == {"status": status, "code": code, "hint": True, "same": True}


def test_the_kernel_refuses_an_unsigned_module_too(verbs: Any) -> None:
    assert verbs["refusals"]["sig_enforce, by the kernel"] in ("EKEYREJECTED", "ENOKEY")


def test_an_untested_kernel_is_forced(verbs: Any, vm: VM) -> None:
    """7.x, without CONFIG_MODVERSIONS, then refuses the renamed module itself."""
    expected = [5, 3] if vm.kernel.series == "7.x" else [0, 0]
    assert verbs["refusals"]["forced"] == expected


def test_show_and_release_without_a_region(verbs: Any) -> None:
    assert verbs["shown without"] == 3
    assert verbs["refusals"]["released"] == 0
    assert verbs["refusals"]["released twice"] == 3


@pytest.mark.parametrize("name", ["pykexec_region.ko.gz", "pykexec_region.ko.xz", ZST, BUILT])
def test_other_modules_make_a_region_too(verbs: Any, name: str) -> None:
    """Compressed ones, unpacked by the kernel if possible, otherwise by pykexec; and the one built
    by `region build`."""
    assert verbs["others"][name] == [128 << 10, 0]


def test_region_build_installs_it_for_the_running_kernel(vm: VM) -> None:
    """In a Debian tree with the headers of the guest's kernel."""
    report = json.loads(built_modules(vm.kernel).report.read_text())
    assert re.fullmatch(r"/lib/modules/[^/]+/updates/pykexec_region.ko", report["path"])
    assert (report["release"], report["signed"]) == (vm.kernel.release, False)


def test_a_process_that_is_killed_or_interrupted_leaves_a_whole_region_or_none(verbs: Any) -> None:
    for number in SIGNALS:
        sizes = verbs["kills"][number.name]
        assert sum(sizes.values()) == KILLS
        assert set(sizes) <= {"0", str(LARGE)}
