"""Memory for devices that a device tree requests by its size: part of what a capture kernel needs.
drivers/of/of_reserved_mem.c decides what is taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from pykexec.abi.devicetree import Node, cells, parse_device_tree
from pykexec.images.contents import Built
from pykexec.images.kernel_image import KernelImage
from pykexec.machine import DeviceTreeFirmware, Machine, Unknown
from pykexec.memory.ranges import MIB
from pykexec.placement.arm64.pools import pools
from pykexec.placement.plan import CrashPlan
from pykexec.placement.plan_load import plan_load
from pykexec.placement.request import LoadRequest
from tests.placement.arm64.test_linux import CRASH, image_of, machine

POOL = {"size": cells(24 * MIB, 2)}
PARENT = {"#address-cells": cells(2, 1), "#size-cells": cells(2, 1), "ranges": b""}


@pytest.fixture
def image(tmp_path: Path) -> KernelImage:
    return image_of(tmp_path)


def tree_with(pool: Mapping[str, bytes], parent: Mapping[str, bytes]) -> bytes:
    """The tree of a captured guest, which has two cells each, with a pool."""
    firmware = machine().firmware
    assert isinstance(firmware, DeviceTreeFirmware)
    assert not isinstance(firmware.tree, Unknown)
    tree = parse_device_tree(firmware.tree)
    child = Node("video-pool", tuple(pool.items()))
    memory = Node("reserved-memory", tuple(parent.items()), (child,))
    return replace(tree, root=tree.root.with_child(memory)).encode()


def machine_with(tree: bytes | Unknown) -> Machine:
    found = machine()
    assert isinstance(found.firmware, DeviceTreeFirmware)
    return replace(found, firmware=replace(found.firmware, tree=tree))


def sizes(pool: Mapping[str, bytes], parent: Mapping[str, bytes] = PARENT) -> list[int]:
    return [term.size for term in pools(machine_with(tree_with(pool, parent)), LoadRequest())]


@pytest.mark.parametrize(
    "pool",
    [
        POOL,
        POOL | {"no-map": b""},
        POOL | {"compatible": b"shared-dma-pool\0", "reusable": b""},
        POOL | {"status": b"okay\0"},
        POOL | {"linux,cma-default": b""},
    ],
)
def test_a_pool_without_an_address_is_taken(pool: dict[str, bytes]) -> None:
    assert sizes(pool) == [24 * MIB]


@pytest.mark.parametrize(
    ("pool", "parent"),
    [
        (POOL | {"reg": cells(0x48000000, 2) + cells(MIB, 2)}, PARENT),
        (POOL | {"status": b"disabled\0"}, PARENT),
        (POOL | {"linux,cma-default": b"", "reusable": b""}, PARENT),
        (POOL | {"size": cells(MIB, 1)}, PARENT),
        ({}, PARENT),
        (POOL, {**PARENT, "#size-cells": cells(1, 1)}),
        (POOL, {name: value for name, value in PARENT.items() if name != "ranges"}),
        (POOL, {"ranges": b""}),
    ],
    ids=["address", "disabled", "cma", "size", "no size", "cells", "ranges", "no cells"],
)
def test_what_the_kernel_does_not_take(pool: dict[str, bytes], parent: dict[str, bytes]) -> None:
    assert sizes(pool, parent) == []


def test_a_capture_kernel_needs_memory_for_them(image: KernelImage) -> None:
    """Whether the tree is the machine's or the user's."""
    tree = tree_with(POOL, PARENT)
    need = estimated(image, machine(), CRASH)
    assert estimated(image, machine_with(tree), CRASH) == need + 24 * MIB
    assert estimated(image, machine(), replace(CRASH, dtb=Built(tree))) == need + 24 * MIB


def estimated(image: KernelImage, found: Machine, request: LoadRequest) -> int:
    plan = plan_load(image, found, request)
    assert isinstance(plan, CrashPlan)
    return plan.estimate.size


@pytest.mark.parametrize("tree", [b"no tree", Unknown("hidden")])
def test_a_tree_that_cannot_be_read(tree: bytes | Unknown) -> None:
    assert pools(machine_with(tree), LoadRequest()) == ()
