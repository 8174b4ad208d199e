"""The UART that a device tree names as its console: /chosen/stdout-path.

Only the kinds that the stub can write to, and only if the processor can address it, and it is not
disabled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.abi.devicetree import BadDeviceTree, DeviceTree, Node, parse_device_tree
from pykexec.machine import DeviceTreeFirmware, SerialConsole, Unknown

if TYPE_CHECKING:
    from pykexec.machine import PcFirmware

PL011 = ("arm,pl011",)
SBSA_UART = ("arm,sbsa-uart",)
UART_8250 = ("ns16550", "ns16550a", "ns16450", "ns8250", "snps,dw-apb-uart")
"""Names in Documentation/devicetree/bindings/serial/{pl011,8250}.yaml and snps-dw-apb-uart.yaml."""
BIG_ENDIAN = "big-endian"


def stdout_uart(firmware: PcFirmware | DeviceTreeFirmware) -> SerialConsole | None:
    """The console of the device tree, unless ACPI describes the hardware."""
    if not isinstance(firmware, DeviceTreeFirmware) or firmware.acpi:
        return None
    if isinstance(firmware.tree, Unknown):
        return None
    try:
        return _console_of(parse_device_tree(firmware.tree))
    except BadDeviceTree:
        return None


def _console_of(tree: DeviceTree) -> SerialConsole | None:
    chosen = tree.node("/chosen")
    wanted = chosen.text("stdout-path") or chosen.text("linux,stdout-path") if chosen else None
    path, _, options = (wanted or "").partition(":")
    aliases = tree.node("/aliases")
    if path and not path.startswith("/"):
        path = (aliases.text(path) if aliases else None) or ""
    nodes = _along(tree, path)
    at = _address(nodes) if all(node.is_available for node in nodes) else None
    return None if at is None else _uart(nodes[-1], at, _speed(options), f"stdout-path {wanted}")


def _along(tree: DeviceTree, path: str) -> list[Node]:
    """The nodes from the root to this path; only the root if there is none."""
    nodes = [tree.root]
    for part in path.split("/")[1:]:
        below = nodes[-1].child(part)
        if below is None:
            return [tree.root]
        nodes.append(below)
    return nodes


def _address(nodes: list[Node]) -> int | None:
    """Where the processor sees the first register of the last node: `reg`, translated by the
    `ranges` of each bus above it (Devicetree Specification, 2.3.8)."""
    reg = nodes[-1].get("reg")
    if reg is None or len(nodes) < 2:
        return None
    width = nodes[-2].cells[0]
    at = _number(reg, 0, width)
    for bus, above in zip(nodes[-2:0:-1], nodes[-3::-1], strict=True):
        at = None if at is None else _translated(bus, above, at)
    return at


def _translated(bus: Node, above: Node, at: int) -> int | None:
    """An address on the bus as an address on the bus above it."""
    ranges = bus.get("ranges")
    if ranges is None:
        return None
    (child, size), parent = bus.cells, above.cells[0]
    entry = child + parent + size
    for start in range(0, len(ranges) // 4 - entry + 1, entry) if ranges and entry else ():
        here = _number(ranges, start, child)
        there = _number(ranges, start + child, parent)
        length = _number(ranges, start + child + parent, size)
        if here is None or there is None or length is None:
            return None
        if here <= at < here + length:
            return at - here + there
    return None if ranges else at


def _number(cells: bytes, at: int, count: int) -> int | None:
    """The number in `count` cells; None if they are not there, or no address of 64 bits."""
    raw = cells[4 * at : 4 * (at + count)]
    return int.from_bytes(raw, "big") if count in (1, 2) and len(raw) == 4 * count else None


def _uart(node: Node, at: int, baud: int | None, source: str) -> SerialConsole | None:
    names = (node.get("compatible") or b"").decode("latin-1").split("\0")
    width, name = node.number("reg-io-width"), node.name.split("@")[0]
    if any(item in PL011 + SBSA_UART for item in names):
        wide = width == 4 or any(item in SBSA_UART for item in names)
        return SerialConsole(name, at, True, baud, 0, source, "PL011", 4 if wide else 2)
    if not any(item in UART_8250 for item in names):
        return None
    shift = node.number("reg-shift") or 0
    at += node.number("reg-offset") or 0
    plain = node.get(BIG_ENDIAN) is None and width in (None, 1, 2, 4) and shift < 4
    return SerialConsole(
        name, at, True, baud, shift if plain else 0, source, width=(width or 1) if plain else 0
    )


def _speed(options: str) -> int | None:
    """115200 of "115200n8"."""
    digits = options[: len(options) - len(options.lstrip("0123456789"))]
    return int(digits) if 0 < len(digits) < 8 else None
