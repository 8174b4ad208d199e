"""The serial port to which the running kernel writes its messages."""

from __future__ import annotations

import re
import struct

from pykexec.host.root import Root, number
from pykexec.machine import SerialConsole, Unknown

TTY = "/sys/class/tty"
SPCR = "/sys/firmware/acpi/tables/SPCR"
SPCR_MAX = 4096
SPCR_HEAD = struct.Struct("<4sI28xB3xBBBBQ")
"""Signature, length; at 36 the type of the interface, at 40 the address of its registers: address
space, width, offset, access size, address."""
SPCR_BAUD = 58
SPCR_SPEEDS = {3: 9600, 4: 19200, 6: 57600, 7: 115200}
UART_8250_TYPES = (0x00, 0x01, 0x12)
"""Types of the DBG2 table: a 16550, a subset of it, and one with the access size of its address."""
PL011_TYPES = (0x03, 0x0D, 0x0E)
"""Types of the DBG2 table: a PL011, and those of the SBSA, which are subsets of it."""
ACPI_MEMORY, ACPI_IO = 0, 1

LEGACY_PORTS = (0x3F8, 0x2F8, 0x3E8, 0x2E8)
"""arch/x86/include/asm/serial.h: ttyS0 to ttyS3 if /sys does not have them."""
UPIO_PORT, UPIO_MEM, UPIO_MEM32, UPIO_MEM16 = 0, 2, 3, 7
"""io_type of include/linux/serial_core.h; all but the first are memory-mapped."""
WIDTHS = {UPIO_MEM: 1, UPIO_MEM32: 4, UPIO_MEM16: 2}
"""Bytes of an access. The rest is big-endian, or of one machine."""
PL011_WIDTHS = {UPIO_MEM: 2, UPIO_MEM32: 4}
"""drivers/tty/serial/amba-pl011.c:pl011_read."""
TTY_WORD = re.compile(r"tty(S|AMA)(\d{1,3})(?:,(\d{1,7}).*)?")
UART_WORD = re.compile(
    r"(?:uart(?:8250)?|ns16550a?|(pl011)),(?:(io|mmio|mmio16|mmio32|mmio32be|mmio32native),)?"
    r"(0x[0-9a-fA-F]{1,16}|\d{1,19})(?:,(\d{1,7}).*)?"
)
EARLY_WIDTHS = {None: 1, "io": 1, "mmio": 1, "mmio16": 2, "mmio32": 4, "mmio32native": 4}
"""Bytes of an access, which is also the distance of an 8250's registers."""
"""drivers/tty/serial/earlycon.c, serial_core.c:uart_parse_earlycon; an address without a type is
memory-mapped."""
EARLYPRINTK = re.compile(r"(?:serial,)?(?:ttyS([0-3])|(0x[0-9a-fA-F]{1,4}))(?:,(\d{1,7}).*)?")
"""arch/x86/kernel/early_printk.c:early_serial_init."""
REGISTERS = 8


def console(
    root: Root, cmdline: str | Unknown, of_tree: SerialConsole | None = None
) -> SerialConsole | Unknown | None:
    """The last console= that is a serial port, otherwise earlycon= or earlyprintk=, otherwise the
    one in the firmware's table (SPCR), or `of_tree`, that of a device tree. None if there is none:
    a missing UART must not be written to. Unknown if the command line is.

    The kernel does not use that of a device tree if there is a console= (drivers/of/base.c:
    of_console_check), unless a bare earlycon requests it; the clock of a UART that is not used may
    be off, and an access would hang."""
    if isinstance(cmdline, Unknown):
        return cmdline
    words = [word.partition("=") for word in _kernel_words(cmdline)]
    consoles = [value for key, _, value in words if key == "console"]
    if consoles and consoles[-1] in ("", "null"):
        return None
    for value in reversed(consoles):
        if found := _of_console(root, value):
            return found
    for key, _, value in reversed(words):
        if found := _of_early(root, key, value):
            return found
    used = not consoles or ("earlycon", "", "") in words
    return _of_spcr(root) or (of_tree if used else None)


def named(root: Root, name: str) -> SerialConsole | None:
    """The UART of a tty, such as ttyAMA0; None if there is none."""
    return _of_console(root, name)


def _kernel_words(cmdline: str) -> list[str]:
    """The words up to "--"; the rest is for init."""
    words = cmdline.split()
    return words[: words.index("--")] if "--" in words else words


def _of_console(root: Root, value: str) -> SerialConsole | None:
    """console=ttyS1,115200n8 or console=uart,mmio32,0xfe032000,115200."""
    match = TTY_WORD.fullmatch(value)
    if match and match[1] == "AMA":
        return _of_pl011(root, f"ttyAMA{int(match[2])}", match[3], f"console={value}")
    if match:
        return _of_tty(root, int(match[2]), match[3], f"console={value}")
    return _of_uart(value, f"console={value}")


def _of_early(root: Root, key: str, value: str) -> SerialConsole | None:
    source = f"{key}={value}"
    if key == "earlycon":
        return _of_uart(value, source)
    match = EARLYPRINTK.fullmatch(value) if key == "earlyprintk" else None
    if not match and key == "earlyprintk" and value.split(",", maxsplit=1)[0] == "serial":
        return _of_tty(root, 0, None, source)
    if not match:
        return None
    if match[1]:
        return _of_tty(root, int(match[1]), match[3], source)
    return SerialConsole("uart", int(match[2], 16), False, speed(match[3]), 0, source)


def _of_uart(value: str, source: str) -> SerialConsole | None:
    match = UART_WORD.fullmatch(value)
    if not match:
        return None
    at, baud, width = int(match[3], 0), speed(match[4]), EARLY_WIDTHS.get(match[2], 0)
    if match[1]:
        width = 4 if match[2] == "mmio32" else 2
        return SerialConsole("uart", at, match[2] != "io", baud, 0, source, "PL011", width)
    shift = max(width, 1).bit_length() - 1 if width else 2
    return SerialConsole("uart", at, match[2] != "io", baud, shift, source, width=width)


def _of_tty(root: Root, line: int, baud: str | None, source: str) -> SerialConsole | None:
    """If /sys/class/tty can be read, it determines whether there is a UART, and where; it shows
    addresses only to root."""
    names, folder = root.entries(TTY), f"{TTY}/ttyS{line}"
    if isinstance(names, tuple) and f"ttyS{line}" not in names:
        return None
    kind, io_type = number(root, f"{folder}/type"), number(root, f"{folder}/io_type")
    if kind == 0:
        return None
    name = f"ttyS{line}"
    if not isinstance(io_type, Unknown) and io_type != UPIO_PORT:
        base, width = number(root, f"{folder}/iomem_base", 16) or 0, WIDTHS.get(io_type, 0)
        shift = _shift_of(root, folder)
        return SerialConsole(name, base, True, speed(baud), shift, source, width=width)
    port = number(root, f"{folder}/port", 16)
    if isinstance(port, Unknown):
        port = LEGACY_PORTS[line] if line < len(LEGACY_PORTS) else 0
    shift = _shift_of(root, folder)
    return SerialConsole(name, port, False, speed(baud), shift, source) if port else None


def _of_pl011(root: Root, name: str, baud: str | None, source: str) -> SerialConsole | None:
    """From /sys/class/tty alone: its address is that of no other machine."""
    folder = f"{TTY}/{name}"
    io_type = number(root, f"{folder}/io_type")
    if isinstance(io_type, Unknown):
        return None
    base = number(root, f"{folder}/iomem_base", 16) or 0
    width = PL011_WIDTHS.get(io_type, 0)
    return SerialConsole(name, base, True, speed(baud), 0, source, "PL011", width)


def _shift_of(root: Root, folder: str) -> int:
    found = number(root, f"{folder}/iomem_reg_shift")
    return found if isinstance(found, int) and 0 <= found < REGISTERS else 0


def speed(baud: str | None) -> int | None:
    return int(baud) if baud else None


def _of_spcr(root: Root) -> SerialConsole | None:
    """The ACPI table SPCR, which Linux also uses for a console (drivers/acpi/spcr.c)."""
    table = root.read(SPCR, SPCR_MAX)
    if isinstance(table, Unknown) or len(table) < max(SPCR_HEAD.size, SPCR_BAUD + 1):
        return None
    signature, _, kind, space, width, _, access, address = SPCR_HEAD.unpack_from(table)
    if signature != b"SPCR" or not address or space not in (ACPI_MEMORY, ACPI_IO):
        return None
    baud = SPCR_SPEEDS.get(table[SPCR_BAUD])
    wide = space == ACPI_MEMORY and (access == 3 or width == 32)
    if kind in PL011_TYPES and space == ACPI_MEMORY:
        size = 4 if wide or kind != PL011_TYPES[0] else 2
        return SerialConsole("uart", address, True, baud, 0, "ACPI SPCR", "PL011", size)
    if kind not in UART_8250_TYPES:
        return None
    shift, size = (2, 4) if wide else (0, 1)
    in_memory = space == ACPI_MEMORY
    return SerialConsole("uart", address, in_memory, baud, shift, "ACPI SPCR", width=size)
