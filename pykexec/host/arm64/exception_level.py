"""The exception level at which the kernel was started, and at which it starts the next one.

The kernel shows it nowhere but in its log, which is overwritten. It follows from the timer that the
kernel uses (drivers/clocksource/arm_arch_timer.c:arch_timer_select_ppi): at EL2 with VHE the one of
EL2, at EL2 otherwise the physical one of EL1, and at EL1 the virtual one.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

from pykexec.machine import ExceptionLevel, Unknown

if TYPE_CHECKING:
    from pykexec.abi.devicetree import DeviceTree, Node
    from pykexec.host.root import Root

INTERRUPTS = "/proc/interrupts"
LINE = re.compile(r"\s(\d{1,5})\s+\S+\s+arch_timer$")
"""The number of the interrupt for its controller, the kind of trigger, and the name."""
GTDT = "/sys/firmware/acpi/tables/GTDT"
GTDT_MAX = 4096
GTDT_NUMBERS = {"phys": 56, "virt": 64, "hyp-phys": 72}
"""Offsets of the 32-bit interrupt numbers (ACPI 6.5, 5.2.25)."""
COMPATIBLE = (b"arm,armv8-timer", b"arm,armv7-timer")
NAMES = ("sec-phys", "phys", "virt", "hyp-phys", "hyp-virt")
"""The order of the interrupts if the node does not name them
(Documentation/devicetree/bindings/timer/arm,arch_timer.yaml)."""
CELLS = struct.Struct(">3I")
"""Of an interrupt: kind, number, trigger (bindings/interrupt-controller/arm,gic.yaml)."""
PPI, FIRST_PPI = 1, 16
LEVELS = {
    "virt": ExceptionLevel.EL1,
    "phys": ExceptionLevel.EL2,
    "hyp-phys": ExceptionLevel.EL2_VHE,
}


def exception_level(root: Root, tree: DeviceTree | Unknown, acpi: bool) -> ExceptionLevel | Unknown:
    """Unknown if the timer in use is not one that the firmware describes."""
    lines = root.matching_lines(INTERRUPTS, r" arch_timer\n")
    if isinstance(lines, Unknown):
        return lines
    used = {int(found[1]) for line in lines if (found := LINE.search(line.rstrip()))}
    if len(used) != 1:
        return Unknown(f"{INTERRUPTS}: does not show which timer the kernel uses")
    numbers = _numbers_of_acpi(root) if acpi else _numbers_of_tree(tree)
    if isinstance(numbers, Unknown):
        return numbers
    levels = [level for name, level in LEVELS.items() if numbers.get(name) in used]
    if len(levels) != 1 or not numbers.get("virt"):
        return Unknown(f"{INTERRUPTS}: timer {used.pop()} is not one that the firmware describes")
    return levels[0]


def _numbers_of_acpi(root: Root) -> dict[str, int] | Unknown:
    table = root.read(GTDT, GTDT_MAX)
    if isinstance(table, Unknown):
        return table
    if len(table) < max(GTDT_NUMBERS.values()) + 4:
        return Unknown(f"{GTDT}: has only {len(table)} bytes")
    return {name: int.from_bytes(table[at : at + 4], "little") for name, at in GTDT_NUMBERS.items()}


def _numbers_of_tree(tree: DeviceTree | Unknown) -> dict[str, int] | Unknown:
    if isinstance(tree, Unknown):
        return tree
    node = next((item for item in tree.root.children if _is_timer(item)), None)
    value = (node.get("interrupts") if node else None) or b""
    entries = list(CELLS.iter_unpack(value)) if len(value) % CELLS.size == 0 else []
    if not entries or any(kind != PPI or number >= FIRST_PPI for kind, number, _ in entries):
        return Unknown("/sys/firmware/fdt: does not have the interrupts of the timer")
    given = (node.get("interrupt-names") if node else None) or b""
    names = given.rstrip(b"\0").decode("latin-1").split("\0") if given else NAMES
    return {name: FIRST_PPI + entry[1] for name, entry in zip(names, entries, strict=False)}


def _is_timer(node: Node) -> bool:
    return any(name in COMPATIBLE for name in (node.get("compatible") or b"").split(b"\0"))
