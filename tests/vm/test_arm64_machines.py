"""Panics on other machines of arm64: at EL2 without and with VHE, with an SMMU, and with EFI and
ACPI. For --all-kernels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from pykexec.memory.iomem import memory_map, parse_iomem
from pykexec.memory.map import DRIVER_RAM
from pykexec.memory.ranges import PhysRange

from .lab import VM
from .machine import Qmp, Result
from .product import PYKEXEC, assert_whole, document, site, text, verdict
from .supplies import efi_firmware_arm64
from .test_arm64_panic import PATTERN_MIB, panic


@dataclass(frozen=True)
class Hardware:
    """QEMU's processor and options, whether EFI starts the kernel, and a part of the kernel's log
    that shows that it is this machine."""

    cpu: str
    evidence: str
    options: str = ""
    efi: bool = False
    others: tuple[str, ...] = ()

    @property
    def arguments(self) -> tuple[str, ...]:
        return (*(("-machine", self.options) if self.options else ()), *self.others)


SMMU = tuple(
    word
    for name in ("disable-legacy=on", "iommu_platform=on")
    for word in ("-global", f"virtio-blk-pci.{name}")
)
"""The disks' DMA by the SMMU, whose tables are in the memory of the crashed kernel."""

HARDWARE = {
    "EL2": Hardware("cortex-a72", "All CPU(s) started at EL2", "virtualization=on"),
    "VHE": Hardware(
        "neoverse-n1", "Virtualization Host Extensions", "virtualization=on,gic-version=3"
    ),
    "SMMU": Hardware(
        "cortex-a72",
        "Adding to iommu group",
        "iommu=smmuv3,gic-version=3",
        others=SMMU,
    ),
    "EFI": Hardware("neoverse-n1", "All CPU(s) started at EL1", efi=True),
}
"""Not `-cpu max`: with it and EFI, 6.12 in QEMU 7.2 has an oops in its own machine_kexec_post_load
when an image is loaded."""


@pytest.fixture(scope="module", params=HARDWARE)
def hardware(request: pytest.FixtureRequest) -> str:
    if not request.config.getoption("--all-kernels"):
        pytest.skip("other machines of arm64 are for --all-kernels")
    return str(request.param)


@pytest.fixture(scope="module", params=["in-place", "stub-swap"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def result(arm_vm: VM, hardware: str, mode: str) -> Result:
    if hardware == "EL2" and arm_vm.kernel.series == "16k":
        pytest.skip("QEMU has no processor with pages of 16 KiB and without VHE")
    chosen = HARDWARE[hardware]
    firmware = efi_firmware_arm64() if chosen.efi else None
    return panic(arm_vm, mode, cpu=chosen.cpu, arguments=chosen.arguments, firmware=firmware)


def test_the_dump_is_whole(result: Result, hardware: str, mode: str) -> None:
    plan = document(result, "first/plan.json")
    assert plan["mode"] == mode
    assert plan["console"]["port"] == "0x9000000"
    assert_whole(verdict(result), PATTERN_MIB * 256)
    assert "pykexec: starting" in result.console
    dmesg = text(result, "second/own-dmesg")
    assert HARDWARE[hardware].evidence in dmesg
    assert ("ACPI: RSDP" in dmesg) is HARDWARE[hardware].efi


ADDED = 0xC000_0000
"""Address of the memory that QEMU adds, behind the 2 GiB of the guest."""
MEMORY = Path("/sys/devices/system/memory")
ADD_MEMORY = f"""
    host mark "add memory"
    until [ -e {MEMORY}/memory$(({ADDED} / 0x$(cat {MEMORY}/block_size_bytes))) ]; do sleep 1; done
    sleep 2
    for block in {MEMORY}/memory*; do
        grep -q online $block/state || echo online > $block/state
    done
    cat /proc/iomem > /out/iomem
"""


def add_memory(mark: str, qmp: Qmp) -> None:
    if mark == "add memory":
        qmp("object-add", {"qom-type": "memory-backend-ram", "id": "added", "size": 1 << 30})
        qmp("device_add", {"driver": "pc-dimm", "id": "dimm", "memdev": "added"})


def test_memory_that_was_added_is_in_the_dump_alone(
    arm_vm: VM, mode: str, pytestconfig: pytest.Config
) -> None:
    """The next kernel does not find it: the window is elsewhere."""
    if not pytestconfig.getoption("--all-kernels"):
        pytest.skip("other machines of arm64 are for --all-kernels")
    result = panic(
        arm_vm,
        mode,
        cpu=HARDWARE["EFI"].cpu,
        arguments=("-m", "slots=1,maxmem=8G"),
        firmware=efi_firmware_arm64(),
        before=ADD_MEMORY,
        on_mark=add_memory,
    )
    lines = parse_iomem((result.files / "first/iomem").read_text())
    assert memory_map(lines).ram.covers(PhysRange.sized(ADDED, 1 << 30))
    plan = document(result, "first/plan.json")
    assert int(plan["window"]["end"], 16) <= ADDED
    (driver,) = [item for item in plan["memory_map"] if item["type"] == DRIVER_RAM]
    assert int(driver["start"], 16) == ADDED
    assert_whole(verdict(result), PATTERN_MIB * 256)


APPEND = "console=ttyAMA0 panic=1 quiet"
FROM_EFI = f"""
    {PYKEXEC} load /boot/vmlinuz --initrd /boot/initrd2 --backend kernel \\
        --append "{APPEND}" --json > /out/plan.json
    copyout /out
    {PYKEXEC} exec --backend kernel --yes
"""
EFI_GOES_ON = """
    test -d /sys/firmware/efi/runtime-map || test -e /sys/firmware/efi/systab
    test -d /sys/firmware/acpi/tables
    dmesg | grep -q "efi: EFI v"
    exit 7
"""


def test_efi_and_acpi_go_on_in_the_next_kernel(arm_vm: VM, pytestconfig: pytest.Config) -> None:
    if not pytestconfig.getoption("--all-kernels"):
        pytest.skip("other machines of arm64 are for --all-kernels")
    arm_vm.run(
        FROM_EFI,
        EFI_GOES_ON,
        smp=2,
        cpu=HARDWARE["EFI"].cpu,
        python=True,
        site=site(),
        firmware=efi_firmware_arm64(),
    ).expect(7)
