"""The UART of a device tree: kinds, registers, and addresses on buses."""

from __future__ import annotations

import struct

import pytest

from pykexec.abi.devicetree import DeviceTree, Node
from pykexec.host.arm64.console import stdout_uart
from pykexec.host.console import console
from pykexec.machine import DeviceTreeFirmware, PcFirmware, SerialConsole, Unknown

from ..conftest import MakeTree
from .test_facts import captured


def cells(*values: int) -> bytes:
    return struct.pack(f">{len(values)}I", *values)


def text(*values: str) -> bytes:
    return b"".join(value.encode() + b"\0" for value in values)


ROOT_CELLS = {"#address-cells": cells(2), "#size-cells": cells(2)}
PL011 = {"compatible": text("arm,pl011", "arm,primecell"), "reg": cells(0, 0x9000000, 0, 0x1000)}


def firmware(stdout: str, *children: Node) -> DeviceTreeFirmware:
    chosen = Node("chosen", (("stdout-path", text(stdout)),))
    aliases = Node("aliases", (("serial0", text("/soc/serial@1000")),))
    root = Node("", tuple(ROOT_CELLS.items()), (chosen, aliases, *children))
    return DeviceTreeFirmware(tree=DeviceTree(root).encode(), acpi=False)


def node(name: str, **values: bytes) -> Node:
    return Node(name, tuple((key.replace("_", "-"), value) for key, value in values.items()))


def test_of_a_captured_machine() -> None:
    found = stdout_uart(captured("virt").firmware)
    assert found == SerialConsole(
        "pl011", 0x9000000, True, None, 0, "stdout-path /pl011@9000000", "PL011", 2
    )


def test_acpi_comes_first() -> None:
    assert stdout_uart(captured("virt-efi").firmware) is None


@pytest.mark.parametrize(
    ("values", "model", "shift", "width", "offset"),
    [
        (PL011, "PL011", 0, 2, 0),
        ({**PL011, "reg_io_width": cells(4)}, "PL011", 0, 4, 0),
        ({**PL011, "compatible": text("arm,sbsa-uart")}, "PL011", 0, 4, 0),
        ({**PL011, "compatible": text("ns16550a")}, "8250", 0, 1, 0),
        (
            {
                **PL011,
                "compatible": text("vendor,uart", "snps,dw-apb-uart"),
                "reg_shift": cells(2),
                "reg_io_width": cells(4),
                "reg_offset": cells(0x40),
            },
            "8250",
            2,
            4,
            0x40,
        ),
        ({**PL011, "compatible": text("ns16550"), "big_endian": b""}, "8250", 0, 0, 0),
        ({**PL011, "compatible": text("ns16550"), "reg_shift": cells(9)}, "8250", 0, 0, 0),
    ],
)
def test_kinds(values: dict[str, bytes], model: str, shift: int, width: int, offset: int) -> None:
    found = stdout_uart(firmware("/uart@9000000:9600n8", node("uart@9000000", **values)))
    assert found is not None
    assert (found.model, found.shift, found.width) == (model, shift, width)
    assert (found.name, found.address, found.speed) == ("uart", 0x9000000 + offset, 9600)
    assert found.in_memory


def soc(ranges: bytes | None, **more: bytes) -> Node:
    uart = node("serial@1000", compatible=text("arm,pl011"), reg=cells(0x1000, 0x100))
    values = {"#address-cells": cells(1), "#size-cells": cells(1), **more}
    if ranges is not None:
        values["ranges"] = ranges
    return Node("soc", tuple(values.items()), (uart,))


@pytest.mark.parametrize(
    ("ranges", "address"),
    [
        (b"", 0x1000),
        (cells(0x0, 0x8, 0x40000000, 0x10000), 0x8_4000_1000),
        (cells(0x8000, 0, 0, 0x100, 0x1000, 0x1, 0, 0x100), 0x1_0000_0000),
        (cells(0x2000, 0x8, 0, 0x10000), None),
        (cells(0x0, 0x8), None),
        (None, None),
    ],
)
def test_an_address_on_a_bus_is_translated(ranges: bytes | None, address: int | None) -> None:
    found = stdout_uart(firmware("serial0:115200", soc(ranges)))
    assert (found and found.address) == address


@pytest.mark.parametrize(
    "given",
    [
        firmware("/nothing@0"),
        firmware("serial7"),
        firmware(""),
        firmware("/uart@0", node("uart@0", compatible=text("arm,pl011"))),
        firmware("/uart@0", node("uart@0", compatible=text("arm,pl011"), reg=b"\0\0\0")),
        firmware("/uart@0", node("uart@0", compatible=text("fsl,lpuart"), reg=cells(0, 1, 0, 1))),
        firmware("/uart@0", node("uart@0", **PL011, status=text("disabled"))),
        firmware("serial0", soc(b"", status=text("fail"))),
        DeviceTreeFirmware(tree=b"not a tree", acpi=False),
        DeviceTreeFirmware(tree=Unknown("hidden"), acpi=False),
        PcFirmware(),
    ],
)
def test_no_console(given: DeviceTreeFirmware | PcFirmware) -> None:
    assert stdout_uart(given) is None


@pytest.mark.parametrize(
    ("cmdline", "used"),
    [
        ("quiet", True),
        ("quiet -- console=tty1", True),
        ("console=tty1", False),
        ("console=ttyMSM0,115200", False),
        ("console=tty1 earlycon", True),
        ("console=null", False),
    ],
)
def test_the_kernel_uses_it_without_another_console(
    tree: MakeTree, cmdline: str, used: bool
) -> None:
    root = tree({"/proc/cmdline": cmdline})
    given = stdout_uart(firmware("/uart@0", node("uart@0", **PL011, status=text("okay"))))
    assert given
    assert console(root, cmdline, given) == (given if used else None)
