"""What the firmware of an arm64 machine passed to the running kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pykexec.abi.devicetree import MAX_SIZE, BadDeviceTree, DeviceTree, Node, parse_device_tree
from pykexec.host.arm64.exception_level import exception_level
from pykexec.host.firmware import efi
from pykexec.machine import DeviceTreeFirmware, Unknown

if TYPE_CHECKING:
    from pykexec.host.root import Root

FDT = "/sys/firmware/fdt"
FADT = "/sys/firmware/acpi/tables/FACP"
FADT_MAX = 4096
ARM_BOOT_ARCH = 129
"""Offset of the 16-bit field in the FADT (ACPI 6.5, 5.2.9.4)."""
ACPI_PSCI, ACPI_HVC = 0x1, 0x2
PSCI_COMPATIBLE = ("arm,psci-1.0", "arm,psci-0.2", "arm,psci")
"""Documentation/devicetree/bindings/arm/psci.yaml."""
PARKING = "parking-protocol"
"""ACPI without PSCI (arch/arm64/kernel/acpi_parking_protocol.c)."""
Conduit = Literal["smc", "hvc"]
CONDUITS: dict[str, Conduit] = {"smc": "smc", "hvc": "hvc"}


def device_tree_firmware(root: Root) -> DeviceTreeFirmware:
    """Under ACPI, the kernel does not use the tree, but still passes it on."""
    raw = root.read(FDT, MAX_SIZE)
    tree = _parsed(raw)
    fadt = root.read(FADT, FADT_MAX)
    by_acpi = isinstance(fadt, bytes)
    return DeviceTreeFirmware(
        tree=raw if isinstance(tree, DeviceTree) else tree,
        acpi=by_acpi,
        psci=_psci_of_acpi(fadt) if by_acpi else _psci_of_tree(tree),
        cpu_methods=_methods_of_acpi(fadt) if by_acpi else _methods_of_tree(tree),
        exception_level=exception_level(root, tree, by_acpi),
        efi=efi(root),
    )


def _parsed(raw: bytes | Unknown) -> DeviceTree | Unknown:
    if isinstance(raw, Unknown):
        return raw
    try:
        return parse_device_tree(raw)
    except BadDeviceTree as error:
        return Unknown(f"{FDT}: {error.message}")


def _flags(fadt: bytes | Unknown) -> int:
    return int.from_bytes((fadt or b"")[ARM_BOOT_ARCH : ARM_BOOT_ARCH + 2], "little")


def _psci_of_acpi(fadt: bytes | Unknown) -> Conduit | None:
    """drivers/firmware/psci/psci.c:psci_acpi_init."""
    if not _flags(fadt) & ACPI_PSCI:
        return None
    return "hvc" if _flags(fadt) & ACPI_HVC else "smc"


def _methods_of_acpi(fadt: bytes | Unknown) -> frozenset[str]:
    return frozenset({"psci" if _flags(fadt) & ACPI_PSCI else PARKING})


def _psci_of_tree(tree: DeviceTree | Unknown) -> Conduit | Unknown | None:
    """drivers/firmware/psci/psci.c:get_set_conduit_method."""
    if isinstance(tree, Unknown):
        return tree
    node = next((item for item in tree.root.children if _is_psci(item)), None)
    if node is None:
        return None
    method = node.text("method")
    return CONDUITS.get(method or "", Unknown(f"{FDT}: /psci has the method {method!r}"))


def _is_psci(node: Node) -> bool:
    names = (node.get("compatible") or b"").decode("latin-1").split("\0")
    return any(name in PSCI_COMPATIBLE for name in names)


def _methods_of_tree(tree: DeviceTree | Unknown) -> frozenset[str] | Unknown:
    """The enable-method of each CPU."""
    if isinstance(tree, Unknown):
        return tree
    processors = tree.node("/cpus")
    nodes = processors.children if processors else ()
    cpus = [item for item in nodes if item.text("device_type") == "cpu"]
    if not cpus:
        return Unknown(f"{FDT}: has no CPUs")
    return frozenset(item.text("enable-method") or "none" for item in cpus)
