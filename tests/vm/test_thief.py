"""Processes of any user take huge pages whenever there are any: the image is still armed, and stays
armed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders import make_bzimage

from .lab import VM
from .product import document, site


@pytest.fixture(scope="module")
def found(vm: VM) -> dict[str, Any]:
    result = vm.run(
        """
    python3 -m guest.thief > /out/thief.json
    copyout /out
""",
        append="crashkernel=1M",
        mem_mib=3072,
        smp=2,
        python=True,
        site=site(),
        files={"/small-vmlinuz": make_bzimage(bytes(0x10000), init_size=0x3378000)},
        timeout_s=500,
    ).expect(0)
    told: dict[str, Any] = document(result, "first/thief.json")
    return told


@pytest.mark.parametrize("thieves", ["nobody", "one", "two"])
def test_the_dump_is_armed_and_stays_so(found: dict[str, Any], thieves: str) -> None:
    loads = found[thieves]["loads"]
    assert [item["code"] for item in loads] == ["done"] * len(loads)
    assert (found[thieves]["stolen"] > 0) is (thieves != "nobody")
    if thieves == "nobody":
        assert [item["gap"] for item in loads] == [None, *[""] * (len(loads) - 1)]


@pytest.mark.parametrize("thieves", ["nobody", "one", "two"])
def test_nothing_of_it_is_left(found: dict[str, Any], thieves: str) -> None:
    assert (found[thieves]["total"], found[thieves]["pool"]) == (0, 0)
    assert found["overcommit"] == 0
    assert (found["left"]["total"], found["left"]["pool"]) == (0, 0)


def test_who_has_them_is_named(found: dict[str, Any]) -> None:
    refusal = found["too little"]
    assert refusal["code"] == "no-room-for-stage"
    assert "; huge pages are held by thief [" in refusal["hint"]
