"""The device tree for the next kernel: that of the running kernel, or the user's, with what this
boot needs in /chosen (Documentation/arch/arm64/booting.rst; Documentation/devicetree/usage-model;
drivers/of/kexec.c:of_kexec_alloc_and_setup_fdt)."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

from pykexec.abi.devicetree import MAX_SIZE, DeviceTree, Node, cells, parse_device_tree
from pykexec.errors import DoesNotFit, NotSupported
from pykexec.frozen import dataclass
from pykexec.images.contents import contents_bytes
from pykexec.machine import DeviceTreeFirmware, Machine, known
from pykexec.memory.device_tree import memory_of_tree
from pykexec.memory.ranges import PhysRange
from pykexec.placement.arm64.completed import address_and_size, completed, has_memory
from pykexec.remedies import Another, Wish

if TYPE_CHECKING:
    from pykexec.memory.map import MemoryMap
    from pykexec.placement.cmdline import CommandLine
    from pykexec.placement.request import LoadRequest

CHOSEN = "chosen"
OF_ONE_BOOT = (
    *("linux,initrd-start", "linux,initrd-end", "linux,elfcorehdr", "linux,usable-memory-range"),
    *("linux,ima-kexec-buffer", "linux,kho-fdt", "linux,kho-scratch"),
)
"""Properties that would be wrong for the next kernel."""
MAX_USABLE = 2
"""drivers/of/fdt.c: MAX_USABLE_RANGES."""
KASLR_SEED_SIZE = 8


class TreeTooLarge(DoesNotFit):
    """A device tree that is larger than the kernel maps."""

    code = "device-tree-too-large"


class TooManyRanges(NotSupported):
    """The memory of a capture kernel is in more pieces than its device tree can list."""

    code = "too-many-usable-ranges"


class TreeOfAnotherMachine(NotSupported):
    """A kernel that gets it stops without a message, or writes to devices that are not there."""

    code = "device-tree-of-another-machine"


class NoMemory(NotSupported):
    """The device tree names no memory: a kernel that gets it stops without a message."""

    code = "device-tree-without-memory"


class OutsideMemory(NotSupported):
    """The device tree names other memory than that in which the next kernel would be: it stops
    without a message."""

    code = "outside-the-memory-of-the-device-tree"


@dataclass(frozen=True, slots=True)
class Capture:
    """What a capture kernel gets in addition: the memory that it may use, beginning with the range
    that contains the kernel, and in it the ELF core headers and `kept`, which it must not use."""

    usable: tuple[PhysRange, ...]
    headers: PhysRange
    kept: tuple[PhysRange, ...] = ()


@dataclass(frozen=True, slots=True)
class DeviceTreeInformation:
    """The contents of the segment without its address, so that its size is known first."""

    tree: DeviceTree
    """Without anything of this boot."""
    cmdline: CommandLine
    memory_map: MemoryMap
    rng_seed: bytes
    capture: Capture | None = None

    @property
    def size(self) -> int:
        """Bytes of the segment, with or without an initrd. Raises TreeTooLarge, BadDeviceTree."""
        return len(self.encode(0, PhysRange(0, 1)))

    def encode(self, at: int, initrd: PhysRange | None, initrd_size: int = 0) -> bytes:
        """The tree, which is the same at every address. Raises TreeTooLarge, and BadDeviceTree for
        addresses that do not fit into it."""
        start = initrd.start if initrd else 0
        values: dict[str, bytes | None] = {
            **dict.fromkeys(OF_ONE_BOOT),
            "bootargs": self.cmdline.encoded,
            "kaslr-seed": hashlib.sha256(b"kaslr" + self.rng_seed).digest()[:KASLR_SEED_SIZE],
            "rng-seed": self.rng_seed,
        }
        if initrd:
            values["linux,initrd-start"] = cells(start, 2)
            values["linux,initrd-end"] = cells(start + initrd_size, 2)
        reserved = self.tree.reserved
        if self.capture:

            def pair(span: PhysRange) -> bytes:
                return address_and_size(span.start, span.size, self.tree.root, f"memory at {span}")

            values["linux,usable-memory-range"] = b"".join(map(pair, self.capture.usable))
            values["linux,elfcorehdr"] = pair(self.capture.headers)
            reserved += tuple((span.start, span.size) for span in self.capture.kept)
        chosen = self.tree.root.child(CHOSEN) or Node(CHOSEN)
        root = self.tree.root.with_child(chosen.changed(values))
        encoded = replace(self.tree, root=root, reserved=reserved).encode()
        if len(encoded) > MAX_SIZE:
            raise TreeTooLarge(
                f"the device tree has {len(encoded):#x} bytes, and a kernel maps {MAX_SIZE:#x}",
                hint=Another("a smaller", Wish.DTB),
            )
        return encoded


def information_for(
    machine: Machine,
    request: LoadRequest,
    line: CommandLine,
    memory_map: MemoryMap,
    rng_seed: bytes,
    capture: Capture | None = None,
) -> DeviceTreeInformation:
    """The device tree for this machine. Raises NotSupported if its tree is unknown, BadDeviceTree,
    TooManyRanges, OutsideMemory."""
    if capture and len(capture.usable) > MAX_USABLE:
        raise TooManyRanges(
            f"the memory of the capture kernel is in {len(capture.usable)} ranges, and a device "
            f"tree names at most {MAX_USABLE}",
            hint="use another window, which is in one piece",
        )
    tree = base_tree(machine, request)
    if capture:
        refuse_outside(tree, capture.usable[0])
    return DeviceTreeInformation(tree, line, memory_map, rng_seed, capture)


def base_tree(machine: Machine, request: LoadRequest) -> DeviceTree:
    """The tree of the running kernel, or the user's with what only the running one has. Raises
    NotSupported, TreeOfAnotherMachine, NoMemory, BadDeviceTree."""
    firmware = machine.firmware
    if not isinstance(firmware, DeviceTreeFirmware):
        raise NotSupported(
            f"{machine.name} has no device tree", hint="use a machine of arm64 to plan for arm64"
        )
    raw = known(firmware.tree, f"the device tree of {machine.name}", "run as root")
    running = parse_device_tree(raw)
    if request.dtb is None:
        given = running
    else:
        given = parse_device_tree(contents_bytes(request.dtb, MAX_SIZE))
        _refuse_another_machine(given, running)
    tree = completed(given, running, with_efi=firmware.efi is not None)
    if not has_memory(tree):
        raise NoMemory(
            "the device tree names no memory: the memory map of EFI does, and is not passed on",
            hint=Another("EFI, or a tree with memory nodes as", Wish.DTB),
        )
    return tree


def refuse_outside(tree: DeviceTree, kernel: PhysRange) -> None:
    """Refuse memory in which the next kernel would find none. Raises OutsideMemory."""
    if not tree.has_efi_memory and not memory_of_tree(tree).covers(kernel):
        raise OutsideMemory(
            f"the device tree names no memory at {kernel}, where the kernel would be",
            hint=Another("a tree without memory nodes as", Wish.DTB),
        )


def _refuse_another_machine(given: DeviceTree, running: DeviceTree) -> None:
    """By the root's `compatible`, of which trees for one board share at least one name (Devicetree
    Specification, 2.3.1); under ACPI the running tree has none. Raises TreeOfAnotherMachine."""
    theirs, ours = _compatible(given), _compatible(running)
    if theirs and ours and not set(theirs) & set(ours):
        raise TreeOfAnotherMachine(
            f"the device tree is for {theirs[0]}, and this machine is {ours[0]}",
            hint=Another("the tree of this machine (/sys/firmware/fdt) as", Wish.DTB),
        )


def _compatible(tree: DeviceTree) -> list[str]:
    """The names, the most specific first."""
    value = tree.root.get("compatible") or b""
    return [name for name in value.decode("latin-1").split("\0") if name]
