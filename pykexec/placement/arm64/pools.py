"""Memory that every kernel takes for devices wherever it finds some: what the device tree requests
by a size without an address (Documentation/devicetree/bindings/reserved-memory).

The rules are those of drivers/of/of_reserved_mem.c. What has an address lies outside of the memory
of a capture kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.abi.devicetree import MAX_SIZE, BadDeviceTree, DeviceTree, Node, parse_device_tree
from pykexec.images.contents import contents_bytes
from pykexec.machine import DeviceTreeFirmware, Unknown
from pykexec.placement.estimate import Term

if TYPE_CHECKING:
    from pykexec.machine import Machine
    from pykexec.placement.request import LoadRequest

RESERVED_MEMORY = "/reserved-memory"
WHY = "the device tree requests it for devices"
CELLS = ("#address-cells", "#size-cells")


def pools(machine: Machine, request: LoadRequest) -> tuple[Term, ...]:
    """The pools of the next kernel's device tree; none if that cannot be read, which the plan
    reports."""
    firmware = machine.firmware
    if not isinstance(firmware, DeviceTreeFirmware):
        return ()
    raw = contents_bytes(request.dtb, MAX_SIZE) if request.dtb else firmware.tree
    try:
        return () if isinstance(raw, Unknown) else _pools(parse_device_tree(raw))
    except BadDeviceTree:
        return ()


def _pools(tree: DeviceTree) -> tuple[Term, ...]:
    parent = tree.node(RESERVED_MEMORY)
    cells = [tree.root.number(name) for name in CELLS]
    if parent is None or parent.get("ranges") is None:
        return ()
    if cells != [parent.number(name) for name in CELLS]:
        return ()
    wanted = [node for node in parent.children if _is_taken(node)]
    sizes = [(node.name, node.get("size") or b"") for node in wanted]
    return tuple(
        Term(name, int.from_bytes(size, "big"), WHY)
        for name, size in sizes
        if len(size) == 4 * (cells[1] or 0)
    )


def _is_taken(node: Node) -> bool:
    """Not if it is the CMA area: cma=, which every capture kernel gets, is used instead of that
    (kernel/dma/contiguous.c:rmem_cma_setup)."""
    if node.get("reg") is not None or not node.is_available:
        return False
    return node.get("linux,cma-default") is None or node.get("reusable") is None
