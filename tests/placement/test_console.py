"""The serial port that the stub gets, in every kind of load."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pykexec.arch import X86_64
from pykexec.errors import UsageError
from pykexec.flows.checked_plan import decide
from pykexec.images.identify import identify
from pykexec.machine import SerialConsole, Unknown
from pykexec.memory.ranges import PhysRange
from pykexec.placement.console import stub_console
from pykexec.placement.request import ImageKind, LoadRequest, Mode
from pykexec.placement.x86.layout import limits_of
from pykexec.purgatory import parse_params
from tests.builders import make_bzimage, make_machine, write
from tests.placement.names import PURGATORY

TTY_S1 = SerialConsole("ttyS1", 0x2F8, False, 9600, 0, "console=ttyS1,9600")
IN_MEMORY = replace(TTY_S1, address=0xFE032000, in_memory=True)
PL011 = SerialConsole("ttyAMA0", 0xFE200000, True, None, 0, "stdout-path", "PL011", 4)
PORTS = limits_of(X86_64)
RESERVED = make_machine(crash_kernel=[PhysRange(0x20000000, 0x30000000)])


@pytest.mark.parametrize(
    ("console", "port", "why"),
    [
        (TTY_S1, 0x2F8, "ttyS1 at 9600 baud, console=ttyS1,9600"),
        (replace(TTY_S1, speed=None), 0x2F8, "ttyS1, console=ttyS1,9600"),
        (None, 0, "the running kernel has no serial console that the stub supports"),
        (Unknown("hidden"), 0, "the running kernel's serial console is unknown: hidden"),
        (IN_MEMORY, 0, "ttyS1 at 9600 baud, console=ttyS1,9600 is memory-mapped, "
         "and the stub does not map it"),
        (replace(TTY_S1, address=0xFFFFFF), 0, "ttyS1 at 9600 baud, console=ttyS1,9600 "
         "has ports that the stub does not support"),
        (replace(TTY_S1, shift=2), 0, "ttyS1 at 9600 baud, console=ttyS1,9600 "
         "has ports that the stub does not support"),
    ],
)  # fmt: skip
def test_where_the_stub_writes(
    console: SerialConsole | Unknown | None, port: int, why: str
) -> None:
    found = stub_console(replace(RESERVED, console=console), PORTS)
    assert (found.port, found.why) == (port, why)


def test_what_was_asked_for_wins() -> None:
    assert stub_console(replace(RESERVED, console=TTY_S1), PORTS, 0x3E8).port == 0x3E8


@pytest.mark.parametrize(
    ("console", "port", "why"),
    [
        (PL011, 0xFE200000, "ttyAMA0, stdout-path"),
        (IN_MEMORY, 0xFE032000, "ttyS1 at 9600 baud, console=ttyS1,9600"),
        (replace(PL011, address=0), 0, "the address of ttyAMA0, stdout-path is hidden"),
        (replace(PL011, address=0x20000000), 0, "ttyAMA0, stdout-path has an address in RAM"),
        (replace(PL011, address=1 << 48), 0, "ttyAMA0, stdout-path has an address that the stub "
         "cannot map"),
        (TTY_S1, 0, "ttyS1 at 9600 baud, console=ttyS1,9600 has I/O ports, "
         "which the stub does not support"),
        (None, 0, "the running kernel has no serial console that the stub supports"),
    ],
)  # fmt: skip
def test_where_a_stub_writes_that_maps_its_uart(
    console: SerialConsole | None, port: int, why: str
) -> None:
    limits = replace(PORTS, uart_in_memory=True, destinations=PhysRange(0x1000, 1 << 48))
    found = stub_console(replace(RESERVED, console=console), limits)
    assert (found.port, found.why) == (port, why)
    assert found.uart is (console if port else None)
    assert str(found) == (f"address {port:#x} ({why})" if port else f"none: {why}")


def test_a_uart_that_was_requested() -> None:
    """An I/O port is nothing where UARTs are in memory."""
    mapped = replace(PORTS, uart_in_memory=True)
    found = stub_console(replace(RESERVED, console=TTY_S1), mapped, PL011)
    assert (found.port, found.uart) == (PL011.address, PL011)
    with pytest.raises(UsageError, match="no I/O port 0x3f8"):
        stub_console(RESERVED, mapped, 0x3F8)
    with pytest.raises(UsageError, match="I/O ports, which the stub does not support"):
        stub_console(replace(RESERVED, console=PL011), mapped, TTY_S1)


@pytest.mark.parametrize("kind", ImageKind)
@pytest.mark.parametrize("console", [TTY_S1, IN_MEMORY, None])
def test_the_stub_of_every_load_is_told(
    tmp_path: Path, kind: ImageKind, console: SerialConsole | None
) -> None:
    image = identify(write(tmp_path, "vmlinuz", make_bzimage()))
    mode = Mode.FLAG if kind is ImageKind.CRASH_BY_NORMAL else None
    plan = decide(image, replace(RESERVED, console=console), LoadRequest(kind, mode=mode)).plan
    stub = plan.named(PURGATORY)
    assert stub
    assert stub.contents
    told = parse_params(b"".join(bytes(chunk) for chunk in stub.contents.chunks()))
    assert told.serial_port == plan.console.port == (0x2F8 if console is TTY_S1 else 0)
