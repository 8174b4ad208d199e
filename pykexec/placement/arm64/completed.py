"""A device tree with what the next kernel cannot do without, and without what is of another boot.

A tree from a file has usually neither memory nor what EFI handed over: the boot loader adds both.
"""

from __future__ import annotations

from dataclasses import replace

from pykexec.abi.devicetree import BadDeviceTree, DeviceTree, Node, address_ranges, cells

EFI_PREFIX = "linux,uefi-"
"""What the EFI stub adds to /chosen (Documentation/arch/arm/uefi.rst): the kernel reads its memory
map and all tables through these."""
CHOSEN = "chosen"
CELLS = ("#address-cells", "#size-cells")
TWO_CELLS = "use a tree with two cells for addresses and sizes"


def completed(given: DeviceTree, running: DeviceTree, with_efi: bool) -> DeviceTree:
    """`given` with the memory and the EFI properties of `running`, unless it is that tree itself;
    without EFI if `with_efi` is false. Raises BadDeviceTree."""
    old = running.root.child(CHOSEN) or Node(CHOSEN)
    chosen = given.root.child(CHOSEN) or Node(CHOSEN)
    efi = {name: value for name, value in old.properties if name.startswith(EFI_PREFIX)}
    gone = {name for name, _ in chosen.properties if name.startswith(EFI_PREFIX)}
    chosen = chosen.changed(dict.fromkeys(gone) | (efi if with_efi else {}))
    root = _with_cells(given.root).with_child(chosen)
    root = _with_memory(root, running.root)
    reserved = dict.fromkeys((*running.reserved, *given.reserved))
    for item in (_initrd(old), *address_ranges(old.get("linux,elfcorehdr"), running.root.cells)):
        reserved.pop(item, None)
    return replace(given, root=root, reserved=tuple(reserved))


def has_memory(tree: DeviceTree) -> bool:
    """Whether a kernel finds memory by it: in memory nodes, which the EFI stub removes, or in the
    memory map of EFI."""
    return tree.has_efi_memory or _names_memory(tree.root)


def _names_memory(root: Node) -> bool:
    return any(item.is_memory and any(item.get("reg") or b"") for item in root.children)


def _with_cells(root: Node) -> Node:
    """The root with explicit numbers of cells, because the defaults of the kernel differ from those
    of the specification (include/linux/of.h). Raises BadDeviceTree for a number of which no address
    or size is made."""
    missing = [name for name in CELLS if root.get(name) is None]
    whole = root.changed(dict.fromkeys(missing, cells(2, 1)))
    for name, count in zip(CELLS, whole.cells, strict=True):
        if count not in (1, 2):
            raise BadDeviceTree(
                f"the root of the device tree has {name} {count}, not 1 or 2", hint=TWO_CELLS
            )
    return whole


def address_and_size(start: int, size: int, root: Node, what: str) -> bytes:
    """An address and a size in bytes, in the root's numbers of cells. Raises BadDeviceTree if these
    are too few; `what` is for the message."""
    address_cells, size_cells = root.cells
    try:
        return cells(start, address_cells) + cells(size, size_cells)
    except OverflowError as error:
        raise BadDeviceTree(
            f"{what} does not fit into the cells of this device tree",
            hint=TWO_CELLS,
        ) from error


def _with_memory(root: Node, running: Node) -> Node:
    """The tree with the memory of the running one, unless it has memory itself. Raises
    BadDeviceTree."""
    if _names_memory(root):
        return root
    kept = tuple(item for item in root.children if not item.is_memory)
    added = [item for item in running.children if item.is_memory]
    return replace(root, children=(*kept, *(_moved(item, running, root) for item in added)))


def _moved(memory: Node, old: Node, new: Node) -> Node:
    """A memory node converted to the numbers of cells of another root. Raises BadDeviceTree."""
    spans = address_ranges(memory.get("reg"), old.cells)
    reg = [address_and_size(start, size, new, memory.name) for start, size in spans]
    return memory.changed({"reg": b"".join(reg)})


def _initrd(chosen: Node) -> tuple[int, int]:
    """Address and size in bytes of the running kernel's initrd, which boot loaders reserve; size 0
    without one."""
    start, end = chosen.number("linux,initrd-start") or 0, chosen.number("linux,initrd-end") or 0
    return start, end - start
