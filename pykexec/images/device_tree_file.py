"""The bytes of a device tree that the user gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.abi.devicetree import MAX_SIZE, BadDeviceTree, parse_device_tree
from pykexec.images.contents import Built, OpenFile

if TYPE_CHECKING:
    from pathlib import Path

    from pykexec.images.contents import Contents


def device_tree_file(path: Path | None) -> Contents | None:
    """A flattened device tree. Raises UnreadableFile, BadDeviceTree."""
    if path is None:
        return None
    file = OpenFile(path)
    if file.size > MAX_SIZE:
        raise BadDeviceTree(
            f"{path}: {file.size:#x} bytes; a device tree has at most {MAX_SIZE:#x}",
            hint="use a compiled device tree (.dtb)",
        )
    raw = file.read(0, file.size)
    try:
        parse_device_tree(raw)
    except BadDeviceTree as error:
        raise BadDeviceTree(f"{path}: {error.message}", hint=error.hint) from error
    return Built(raw)
