"""The UART that the running kernel writes to, from its command line, /sys and ACPI."""

from __future__ import annotations

import struct

import pytest

from pykexec.host.captured import capture
from pykexec.host.console import named
from pykexec.host.facts import read_machine
from pykexec.machine import SerialConsole, Unknown

from .conftest import MakeTree


def port(name: str, at: int, source: str, speed: int | None = None) -> SerialConsole:
    return SerialConsole(name, at, False, speed, 0, source)


def memory(
    at: int, source: str, speed: int | None = None, shift: int = 0, width: int = 1
) -> SerialConsole:
    return SerialConsole("uart", at, True, speed, shift, source, width=width)


def pl011(
    name: str, at: int, source: str, width: int = 2, speed: int | None = None
) -> SerialConsole:
    return SerialConsole(name, at, True, speed, 0, source, "PL011", width)


def tty(line: int | str, **files: str) -> dict[str, str]:
    name = line if isinstance(line, str) else f"ttyS{line}"
    return {f"/sys/class/tty/{name}/{file}": f"{text}\n" for file, text in files.items()}


def spcr(kind: int = 0, space: int = 1, address: int = 0x2F8, baud: int = 7) -> bytes:
    """80 bytes, as in revision 2."""
    head = struct.pack("<4sI28xB3xBBBBQ", b"SPCR", 80, kind, space, 8, 0, 1, address)
    return (head.ljust(58, b"\0") + bytes([baud])).ljust(80, b"\0")


TTY_S1 = tty(1, type="4", io_type="0", port="0x2F8", iomem_base="0x0", iomem_reg_shift="0")
TTY_S4 = tty(4, type="4", io_type="3", port="0x0", iomem_base="0xFE032000", iomem_reg_shift="2")
NO_UART = tty(0, type="0", io_type="0", port="0x3F8")

CASES: dict[str, tuple[str, dict[str, str | bytes], SerialConsole | None]] = {
    "none is named": ("root=/dev/vda1 quiet", {}, None),
    "the screen": ("console=tty0", {}, None),
    "another driver's": ("console=hvc0 console=ttyAMA0", {}, None),
    "legacy": ("console=ttyS0", {}, port("ttyS0", 0x3F8, "console=ttyS0")),
    "speed": (
        "console=ttyS1,9600n8",
        {},
        port("ttyS1", 0x2F8, "console=ttyS1,9600n8", 9600),
    ),
    "the last one": (
        "console=ttyS0 console=ttyS1,115200",
        {},
        port("ttyS1", 0x2F8, "console=ttyS1,115200", 115200),
    ),
    "before the screen": (
        "console=ttyS2 console=tty0",
        {},
        port("ttyS2", 0x3E8, "console=ttyS2"),
    ),
    "for init": ("quiet -- console=ttyS0", {}, None),
    "switched off": ("console=ttyS0 console=null", {}, None),
    "switched off by nothing": ("console=ttyS0 console=", {}, None),
    "as /sys says": ("console=ttyS1", dict(TTY_S1), port("ttyS1", 0x2F8, "console=ttyS1")),
    "elsewhere as /sys says": (
        "console=ttyS0",
        dict(tty(0, type="4", io_type="0", port="0xE010")),
        port("ttyS0", 0xE010, "console=ttyS0"),
    ),
    "no UART answers": ("console=ttyS0", dict(NO_UART), None),
    "no such tty": ("console=ttyS0", dict(TTY_S1), None),
    "no UART answers there, but at the other": (
        "console=ttyS1 console=ttyS0",
        {**TTY_S1, **NO_UART},
        port("ttyS1", 0x2F8, "console=ttyS1"),
    ),
    "a tty in memory": (
        "console=ttyS4",
        dict(TTY_S4),
        SerialConsole("ttyS4", 0xFE032000, True, None, 2, "console=ttyS4", width=4),
    ),
    "a tty in big-endian memory": (
        "console=ttyS4",
        dict(tty(4, type="4", io_type="6", port="0x0", iomem_base="0xFE032000")),
        SerialConsole("ttyS4", 0xFE032000, True, None, 0, "console=ttyS4", width=0),
    ),
    "a PL011": (
        "console=ttyAMA1,115200",
        dict(tty("ttyAMA1", type="32", io_type="2", iomem_base="0x9000000")),
        pl011("ttyAMA1", 0x9000000, "console=ttyAMA1,115200", speed=115200),
    ),
    "a PL011 of the SBSA": (
        "console=ttyAMA0",
        dict(tty("ttyAMA0", type="32", io_type="3", iomem_base="0x9000000")),
        pl011("ttyAMA0", 0x9000000, "console=ttyAMA0", 4),
    ),
    "a PL011 whose address is hidden": (
        "console=ttyAMA0",
        dict(tty("ttyAMA0", type="32", io_type="3")),
        pl011("ttyAMA0", 0, "console=ttyAMA0", 4),
    ),
    "earlycon of a PL011": (
        "earlycon=pl011,0x9000000,9600",
        {},
        pl011("uart", 0x9000000, "earlycon=pl011,0x9000000,9600", speed=9600),
    ),
    "earlycon of a PL011 with wide registers": (
        "earlycon=pl011,mmio32,0x9000000",
        {},
        pl011("uart", 0x9000000, "earlycon=pl011,mmio32,0x9000000", 4),
    ),
    "uart mmio16": (
        "console=uart,mmio16,0xfe032000",
        {},
        memory(0xFE032000, "console=uart,mmio16,0xfe032000", shift=1, width=2),
    ),
    "uart mmio32be": (
        "console=uart,mmio32be,0xfe032000",
        {},
        memory(0xFE032000, "console=uart,mmio32be,0xfe032000", shift=2, width=0),
    ),
    "beyond the legacy ports": ("console=ttyS7", {}, None),
    "uart io": (
        "console=uart8250,io,0x2f8,115200n8",
        {},
        port("uart", 0x2F8, "console=uart8250,io,0x2f8,115200n8", 115200),
    ),
    "uart mmio": (
        "console=uart,mmio,0xfe032000",
        {},
        memory(0xFE032000, "console=uart,mmio,0xfe032000"),
    ),
    "uart mmio32": (
        "console=uart,mmio32,0xfe032000,57600",
        {},
        memory(0xFE032000, "console=uart,mmio32,0xfe032000,57600", 57600, 2, 4),
    ),
    "uart without a word is memory": (
        "console=uart8250,0xfe032000",
        {},
        memory(0xFE032000, "console=uart8250,0xfe032000"),
    ),
    "earlycon": (
        "earlycon=uart8250,io,0x3f8,115200 console=tty0",
        {},
        port("uart", 0x3F8, "earlycon=uart8250,io,0x3f8,115200", 115200),
    ),
    "console before earlycon": (
        "console=ttyS1 earlycon=uart8250,io,0x3f8",
        {},
        port("ttyS1", 0x2F8, "console=ttyS1"),
    ),
    "earlyprintk": (
        "earlyprintk=serial,ttyS1,9600,keep",
        {},
        port("ttyS1", 0x2F8, "earlyprintk=serial,ttyS1,9600,keep", 9600),
    ),
    "earlyprintk by port": (
        "earlyprintk=serial,0x2e8",
        {},
        port("uart", 0x2E8, "earlyprintk=serial,0x2e8"),
    ),
    "earlyprintk on the screen": ("earlyprintk=vga", {}, None),
    "SPCR": (
        "quiet",
        {"/sys/firmware/acpi/tables/SPCR": spcr()},
        port("uart", 0x2F8, "ACPI SPCR", 115200),
    ),
    "SPCR in memory": (
        "quiet",
        {"/sys/firmware/acpi/tables/SPCR": spcr(space=0, address=0xFE032000, baud=0)},
        memory(0xFE032000, "ACPI SPCR"),
    ),
    "SPCR of another kind of UART": (
        "quiet",
        {"/sys/firmware/acpi/tables/SPCR": spcr(kind=5)},
        None,
    ),
    "SPCR of a PL011": (
        "quiet",
        {"/sys/firmware/acpi/tables/SPCR": spcr(kind=3, space=0, address=0x9000000)},
        pl011("uart", 0x9000000, "ACPI SPCR", 2, 115200),
    ),
    "SPCR of a UART of the SBSA": (
        "quiet",
        {"/sys/firmware/acpi/tables/SPCR": spcr(kind=0xE, space=0, address=0x9000000)},
        pl011("uart", 0x9000000, "ACPI SPCR", 4, 115200),
    ),
    "SPCR of a PL011 with ports": (
        "quiet",
        {"/sys/firmware/acpi/tables/SPCR": spcr(kind=3, space=1)},
        None,
    ),
    "SPCR that is switched off": (
        "quiet",
        {"/sys/firmware/acpi/tables/SPCR": spcr(address=0)},
        None,
    ),
    "SPCR in another address space": (
        "quiet",
        {"/sys/firmware/acpi/tables/SPCR": spcr(space=2)},
        None,
    ),
    "SPCR that is cut off": ("quiet", {"/sys/firmware/acpi/tables/SPCR": spcr()[:40]}, None),
    "console before SPCR": (
        "console=ttyS0",
        {"/sys/firmware/acpi/tables/SPCR": spcr()},
        port("ttyS0", 0x3F8, "console=ttyS0"),
    ),
}


@pytest.mark.parametrize(("cmdline", "files", "expected"), CASES.values(), ids=CASES)
def test_console(
    tree: MakeTree,
    cmdline: str,
    files: dict[str, str | bytes],
    expected: SerialConsole | None,
) -> None:
    root = tree({"/proc/cmdline": cmdline, **files})
    assert read_machine(root).console == expected
    assert read_machine(capture(root)).console == expected


def test_an_unknown_command_line_names_no_console(tree: MakeTree) -> None:
    assert isinstance(read_machine(tree({"/proc/cmdline": None})).console, Unknown)


def test_a_uart_by_its_name(tree: MakeTree) -> None:
    """And never another one, that the firmware names."""
    root = tree({"/sys/firmware/acpi/tables/SPCR": spcr(), **TTY_S1})
    assert named(root, "ttyS1") == port("ttyS1", 0x2F8, "console=ttyS1")
    assert [named(root, name) for name in ("ttyS0", "ttyAMA0", "ttyMSM0", "")] == [None] * 4
