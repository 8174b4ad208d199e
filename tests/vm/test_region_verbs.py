"""`pykexec region` on a real kernel: each refusal with its exit status, and nothing left behind;
compressed modules; and a process that is killed while it makes a region."""

from __future__ import annotations

from typing import Any

import pytest

from .guest.region_verbs import KILLS
from .lab import VM
from .product import document, site
from .region_module import INSTALLED, region_files


@pytest.fixture(scope="module")
def verbs(vm: VM) -> Any:
    result = vm.run(
        f"""
        python3 -m guest.region_verbs /lib/modules/$(uname -r)/{INSTALLED} \\
            > /out/verbs.json 2> /out/error || {{ cat /out/error; exit 1; }}
        copyout /out
        """,
        mem_mib=1024,
        python=True,
        site=site(),
        files=region_files(vm.kernel),
        timeout_s=500,
    ).expect(0)
    return document(result, "first/verbs.json")


REFUSALS = {
    "0": (2, "usage"),
    "3K": (2, "bad-region-size"),
    "5G": (6, "region-too-large"),
    "another kernel's": (5, "module-of-another-kernel"),
    "no module": (5, "not-the-module"),
    "kptr_restrict": (4, "symbols-hidden"),
    "capability": (4, "modules-refused"),
    "exists": (1, "region-exists"),
    "lockdown": (4, "modules-refused"),
    "modules_disabled": (4, "modules-refused"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_has_its_exit_status_and_leaves_nothing_behind(verbs: Any, name: str) -> None:
    status, code = REFUSALS[name]
    assert verbs["refusals"][name] == {"status": status, "code": code, "hint": True, "same": True}


def test_show_and_release_without_a_region(verbs: Any) -> None:
    assert verbs["shown without"] == 3
    assert verbs["refusals"]["released"] == 0
    assert verbs["refusals"]["released twice"] == 3


def test_a_compressed_module_is_unpacked(verbs: Any) -> None:
    assert verbs["compressed"] == {".gz": [128 << 10, 0], ".xz": [128 << 10, 0]}


def test_a_process_that_is_killed_leaves_a_whole_region_or_none(verbs: Any) -> None:
    sizes = verbs["kills"]
    assert sum(sizes.values()) == KILLS
    assert set(sizes) <= {"0", str(192 << 20)}
