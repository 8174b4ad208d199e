"""kexec(8) on arm64: the options that kexec-tools has there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pykexec.abi.devicetree import DeviceTree, parse_device_tree
from pykexec.host.captured import open_root
from pykexec.host.facts import read_machine
from pykexec.machine import DeviceTreeFirmware, Machine, SerialConsole
from pykexec.purgatory.arm64.stub import UartKind, parse_params
from tests.backends.kernel.calls import Calls
from tests.builders import make_arm64_image, make_bzimage, write
from tests.cli.kexec8.conftest import Kexec, MadeUp

VIRT = Path(__file__).parents[2] / "host/arm64/virt.json"
OWN = "console=ttyAMA0 quiet"
AMA0 = SerialConsole("ttyAMA0", 0x9000000, True, None, 0, "console=ttyAMA0", "PL011", 2)
S0 = SerialConsole("ttyS0", 0x9010000, True, None, 2, "console=ttyS0", "8250", 4)


@pytest.fixture
def machine(kernel: MadeUp, files: Path) -> Machine:
    """The kernel's machine is now one of arm64, and there is an `Image`."""
    write(files, "Image", make_arm64_image())
    found = read_machine(open_root(VIRT))
    kernel.made = replace(found, cmdline=OWN, kexec=kernel.made.kexec, config=kernel.made.config)
    kernel.uarts = {"ttyAMA0": AMA0, "ttyS0": S0}
    return kernel.made


def parts(calls: Calls) -> list[bytes]:
    (loaded,) = calls.loads
    return [bytes(data) for _, _, data in loaded.segments]


def tree_of(calls: Calls) -> DeviceTree:
    (found,) = [data for data in parts(calls) if data.startswith(b"\xd0\x0d\xfe\xed")]
    return parse_device_tree(found)


@pytest.mark.usefixtures("machine")
def test_the_options_of_kexec_tools_for_arm64(kexec: Kexec, calls: Calls, machine: Machine) -> None:
    """--append, --command-line, --dtb, --initrd, --ramdisk, --reuse-cmdline, --serial."""
    assert isinstance(machine.firmware, DeviceTreeFirmware)
    assert isinstance(machine.firmware.tree, bytes)
    running = parse_device_tree(machine.firmware.tree)
    root = replace(running.root, properties=(*running.root.properties, ("from-the-user", b"")))
    Path("given.dtb").write_bytes(replace(running, root=root).encode())
    words = ["-c", "-l", "Image", "--initrd=initrd", "--dtb=given.dtb", "--reuse-cmdline"]
    kexec(*words, "--append=one=1", "--command-line=two=2", "--serial=ttyAMA0")
    tree = tree_of(calls)
    assert tree.root.get("from-the-user") == b""
    chosen = tree.node("/chosen")
    assert chosen
    assert chosen.text("bootargs") == f"{OWN} one=1 two=2"
    start, end = chosen.number("linux,initrd-start"), chosen.number("linux,initrd-end")
    assert start
    assert end == start + Path("initrd").stat().st_size


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("name", "uart", "kind"),
    [("ttyAMA0", AMA0, UartKind.PL011), ("ttyS0", S0, UartKind.UART_8250)],
)
def test_the_purgatory_writes_to_the_named_uart(
    kexec: Kexec, calls: Calls, name: str, uart: SerialConsole, kind: UartKind
) -> None:
    kexec(f"-c -l Image --initrd=initrd --serial={name}")
    (params,) = [parse_params(data) for data in parts(calls) if data[16:24] == b"PYKEXECA"]
    assert (params.uart, params.uart_kind) == (uart.address, kind)
    assert (params.uart_shift, params.uart_width) == (uart.shift, uart.width)


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("name", ["ttyAMA7", "0x3f8"])
def test_a_uart_that_the_machine_does_not_have(kexec: Kexec, calls: Calls, name: str) -> None:
    result = kexec(f"-c -l Image --initrd=initrd --serial={name}", status=1)
    assert f"Bad serial port base '{name}'" in result.err
    assert "ttyAMA0" in result.err
    assert calls.loads == []


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("call", ["-c", "-s", "-a"])
@pytest.mark.parametrize("slot", ["-l", "-p"])
def test_a_kernel_for_x86(kexec: Kexec, calls: Calls, call: str, slot: str) -> None:
    write(Path(), "bz", make_bzimage())
    result = kexec(f"{call} {slot} bz --initrd=initrd", status=255)
    assert "which arm64 cannot run" in result.err
    assert calls.loads == []


@pytest.mark.parametrize("call", ["-c", "-s", "-a"])
@pytest.mark.parametrize("slot", ["-l", "-p"])
def test_a_kernel_for_arm64_on_x86(
    kexec: Kexec, calls: Calls, files: Path, call: str, slot: str
) -> None:
    write(files, "Image", make_arm64_image())
    result = kexec(f"{call} {slot} Image --initrd=initrd", status=255)
    assert "a kernel for arm64, which x86 cannot run" in result.err
    assert calls.loads == []
