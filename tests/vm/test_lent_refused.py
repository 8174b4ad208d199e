"""Mode lent where memory cannot be made movable, or does not stay so, and where the load is killed;
one boot without a panic."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .debian import Unavailable
from .lab import VM
from .product import document, site

BALLOON = "/virtio_balloon.ko"


@pytest.fixture(scope="module")
def life(vm: VM) -> Any:
    modules = list(vm.kernel.modules.rglob("virtio_balloon.ko*"))
    if not modules or modules[0].suffix != ".ko":
        raise Unavailable(f"no virtio_balloon.ko in the package of {vm.kernel.release}")
    result = vm.run(
        f"""
        python3 -m guest.lent_life {BALLOON} > /out/life.json 2> /out/error || {{
            copyout /out; cat /out/error; exit 1; }}
        copyout /out
        """,
        "true",
        append="crashkernel=64K",
        mem_mib=1536,
        python=True,
        site=site(),
        files={BALLOON: modules[0]},
        arguments=("-device", "virtio-balloon-pci"),
        timeout_s=400,
    ).expect(0)
    return document(result, "first/life.json")


def test_status_finds_a_block_that_another_program_took(life: Any) -> None:
    found = life["offline"]
    assert (found["loaded"]["status"], found["loaded"]["mode"], found["good"]) == (0, "lent", 0)
    status, problem = found["offline"]
    assert (status, "is offline" in problem) == (3, True), problem
    status, problem = found["in another zone"]
    assert (status, "not in Movable" in problem) == (3, True), problem
    assert (found["unload"], found["same"]) == (0, True)


def test_a_block_with_a_pinned_page_is_given_up_in_time(life: Any) -> None:
    """Another one is used, or the load is refused; what could not be made movable is restored."""
    found = life["pinned"]
    loaded = found["loaded"]
    assert loaded["seconds"] > 5, "the block was not tried"
    assert loaded["seconds"] < 60
    if loaded["status"]:
        assert (loaded["status"], loaded["error"]["code"]) == (6, "no-movable-memory")
        assert found["changed"] == []
    else:
        assert found["changed"] == loaded["blocks"]
        assert loaded["blocks"] != found["pinned"]
        assert found["unload"] == 0
    assert found["same"]


def test_a_load_that_is_killed_leaves_nothing_that_its_journal_does_not_name(life: Any) -> None:
    """On one processor the moment in which a block is offline may pass unseen."""
    for found in life["killed"]:
        assert found["killed"] or found["moment"] == "offline", found
        assert set(found["changed"]) <= set(found["journal"]), found
        assert found["same"], found
    assert any(found["killed"] and found["changed"] for found in life["killed"])


def test_a_balloon_driver_rules_it_out(life: Any) -> None:
    found = life["balloon"]
    refused, chosen = found["refused"], found["by itself"]
    status, problem = found["later"]
    assert (found["armed"]["mode"], status) == ("lent", 3)
    assert "virtio_balloon" in problem
    assert (found["replaced"]["mode"], found["good"]) == ("in-place", 0)
    assert (refused["status"], refused["error"]["code"]) == (5, "no-mode")
    assert "virtio_balloon" in json.dumps(refused["error"])
    assert found["same"]
    assert (chosen["status"], chosen["mode"]) == (0, "in-place")
    assert "virtio_balloon" in chosen["lacking"]["lent"]
