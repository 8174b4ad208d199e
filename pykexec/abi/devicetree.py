"""The flattened device tree (Devicetree Specification, chapter 5): read, changed and written.

Version 17, and 16, which only lacks the size of the structure block. Everything is big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from pykexec.errors import KexecError
from pykexec.frozen import dataclass

FDT_MAGIC = 0xD00DFEED
FDT_BEGIN_NODE, FDT_END_NODE, FDT_PROP, FDT_NOP, FDT_END = 1, 2, 3, 4, 9
VERSION, LAST_COMPATIBLE = 17, 16
HEADER = struct.Struct(">10I")
"""struct fdt_header: magic, totalsize, off_dt_struct, off_dt_strings, off_mem_rsvmap, version,
last_comp_version, boot_cpuid_phys, size_dt_strings, size_dt_struct."""
HEADER_16_SIZE = 36
RESERVE_ENTRY = struct.Struct(">2Q")
TOKEN = struct.Struct(">I")
PROPERTY = struct.Struct(">3I")
"""The token, the length of the value, and the offset of the name."""

MAX_SIZE = 2 << 20
"""arch/arm64/include/asm/boot.h: MAX_FDT_SIZE."""
EFI_MEMORY_MAP = "linux,uefi-mmap-start"
"""The property of /chosen with the address of EFI's memory map, in which a kernel that has it finds
its memory (Documentation/arch/arm/uefi.rst)."""
MAX_DEPTH = 64
"""drivers/of/fdt.c: FDT_MAX_DEPTH."""
MAX_NAME = 255
"""Bytes of a name, which limits the search for its end; the specification allows 31 to a part."""
DEFAULT_ADDRESS_CELLS, DEFAULT_SIZE_CELLS = 2, 1


class BadDeviceTree(KexecError):
    """Not a device tree, or one that is truncated or contradictory."""

    code = "bad-device-tree"


def _bad(why: str) -> BadDeviceTree:
    return BadDeviceTree(
        f"not a device tree: {why}", hint="check it with dtc -I dtb -O dts, or get it again"
    )


@dataclass(frozen=True, slots=True)
class Node:
    """A node with its name ("memory@40000000", "" for the root); properties and children in the
    order of the tree."""

    name: str
    properties: tuple[tuple[str, bytes], ...] = ()
    children: tuple[Node, ...] = ()

    def get(self, name: str) -> bytes | None:
        """The value of a property; the first one if it is there twice, as for the kernel."""
        return next((value for key, value in self.properties if key == name), None)

    def text(self, name: str) -> str | None:
        """The first string of a property."""
        found = self.get(name)
        return None if found is None else found.split(b"\0")[0].decode("latin-1")

    def number(self, name: str) -> int | None:
        """The number in a property of one or two cells."""
        found = self.get(name)
        return int.from_bytes(found, "big") if found and len(found) in (4, 8) else None

    @property
    def is_available(self) -> bool:
        """drivers/of/base.c:__of_device_is_available."""
        return self.get("status") is None or self.text("status") in ("okay", "ok")

    @property
    def is_memory(self) -> bool:
        """Whether it is memory, as in drivers/of/fdt.c:early_init_dt_scan_memory."""
        return self.text("device_type") == "memory"

    @property
    def cells(self) -> tuple[int, int]:
        """The numbers of cells of an address and of a size in the `reg` of its children."""
        address, size = self.number("#address-cells"), self.number("#size-cells")
        return (
            DEFAULT_ADDRESS_CELLS if address is None else address,
            DEFAULT_SIZE_CELLS if size is None else size,
        )

    def child(self, name: str) -> Node | None:
        """The child with this complete name, or this name without the unit address; None if there
        is none."""
        whole = next((item for item in self.children if item.name == name), None)
        if whole is not None:
            return whole
        return next((item for item in self.children if item.name.split("@")[0] == name), None)

    def changed(self, values: Mapping[str, bytes | None]) -> Node:
        """The node with these properties changed; None removes one, and new ones come last."""
        kept = [(name, values.get(name, old)) for name, old in _once(self.properties)]
        had = {name for name, _ in kept}
        kept += [(name, value) for name, value in values.items() if name not in had]
        present = tuple((name, value) for name, value in kept if value is not None)
        return replace(self, properties=present)

    def with_child(self, child: Node) -> Node:
        """The node with this child, in the place of the child with the same name or as the last
        one."""
        others = [child if item.name == child.name else item for item in self.children]
        if not any(item.name == child.name for item in self.children):
            others.append(child)
        return replace(self, children=tuple(others))


def _once(properties: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    """Each property once: of several with a name, the kernel and libfdt use the first."""
    seen: set[str] = set()
    for name, value in properties:
        if name not in seen:
            seen.add(name)
            yield name, value


@dataclass(frozen=True, slots=True)
class DeviceTree:
    """`reserved` are addresses and sizes in bytes, `boot_cpu` is the physical number of the CPU
    that boots."""

    root: Node
    reserved: tuple[tuple[int, int], ...] = ()
    boot_cpu: int = 0

    @property
    def has_efi_memory(self) -> bool:
        """Whether the kernel finds its memory in the map of EFI, and not by memory nodes."""
        chosen = self.root.child("chosen")
        return chosen is not None and chosen.get(EFI_MEMORY_MAP) is not None

    def node(self, path: str) -> Node | None:
        """The node at "/chosen" or "/cpus/cpu@0"; None if there is none."""
        found: Node | None = self.root
        for part in path.split("/"):
            if part and found is not None:
                found = found.child(part)
        return found

    def encode(self) -> bytes:
        """The bytes of the tree in version 17, without space for additions."""
        strings = bytearray()
        offsets: dict[str, int] = {}
        body = bytearray()
        _encode_nodes(self.root, body, strings, offsets)
        body += TOKEN.pack(FDT_END)
        reserved = b"".join(RESERVE_ENTRY.pack(*item) for item in (*self.reserved, (0, 0)))
        at = HEADER.size + len(reserved)
        head = HEADER.pack(
            FDT_MAGIC,
            at + len(body) + len(strings),
            at,
            at + len(body),
            HEADER.size,
            VERSION,
            LAST_COMPATIBLE,
            self.boot_cpu,
            len(strings),
            len(body),
        )
        return head + reserved + bytes(body) + bytes(strings)


def _encode_nodes(root: Node, body: bytearray, strings: bytearray, offsets: dict[str, int]) -> None:
    """Append a tree to the structure block, and the names of its properties to the strings."""
    body += TOKEN.pack(FDT_BEGIN_NODE) + _padded(root.name.encode("latin-1") + b"\0")
    for name, value in root.properties:
        if name not in offsets:
            offsets[name] = len(strings)
            strings += name.encode("latin-1") + b"\0"
        body += PROPERTY.pack(FDT_PROP, len(value), offsets[name]) + _padded(value)
    for child in root.children:
        _encode_nodes(child, body, strings, offsets)
    body += TOKEN.pack(FDT_END_NODE)


def _padded(value: bytes) -> bytes:
    return value + bytes(-len(value) % 4)


def parse_device_tree(raw: bytes) -> DeviceTree:
    """Parse a tree; bytes after it are ignored. Raises BadDeviceTree."""
    blob, body, strings, reserved_at, boot_cpu = _blocks(raw)
    return DeviceTree(_Reader(body, strings).tree(), tuple(_reserved(blob, reserved_at)), boot_cpu)


def _blocks(raw: bytes) -> tuple[bytes, bytes, bytes, int, int]:
    """The tree's bytes, its structure block, its strings, the offset of the reserve map, and the
    CPU that boots."""
    if len(raw) < HEADER.size:
        raise _bad(f"{len(raw)} bytes, less than the {HEADER.size} of a header")
    fields = HEADER.unpack_from(raw)
    magic, total, body_at, strings_at, reserved_at, version, compatible, cpu, n_strings, n = fields
    if magic != FDT_MAGIC:
        raise _bad(f"magic {magic:#x} instead of {FDT_MAGIC:#x}")
    if total > min(len(raw), MAX_SIZE):
        limit = f"at most {MAX_SIZE:#x}" if total > MAX_SIZE else f"there are {len(raw):#x}"
        raise _bad(f"its header says {total:#x} bytes, {limit}")
    if version < LAST_COMPATIBLE or compatible > VERSION:
        raise _bad(f"version {version}, compatible with {compatible}; known are 16 and 17")
    if version == LAST_COMPATIBLE:
        n = max(total - body_at, 0)
    for name, start, size in (
        ("the structure block", body_at, n),
        ("the strings", strings_at, n_strings),
        ("the reserve map", reserved_at, RESERVE_ENTRY.size),
    ):
        if start < HEADER_16_SIZE or start + size > total:
            raise _bad(f"{name} is {size:#x} bytes at {start:#x}, it ends at {total:#x}")
    blob = raw[:total]
    strings = blob[strings_at : strings_at + n_strings]
    return blob, blob[body_at : body_at + n], strings, reserved_at, cpu


def _reserved(blob: bytes, at: int) -> Iterator[tuple[int, int]]:
    """The entries up to the one of zeros."""
    while at + RESERVE_ENTRY.size <= len(blob):
        entry = RESERVE_ENTRY.unpack_from(blob, at)
        if entry == (0, 0):
            return
        yield entry
        at += RESERVE_ENTRY.size
    raise _bad("its reserve map has no end")


class _Reader:
    """Reads the structure block; each token is at a multiple of 4 bytes."""

    def __init__(self, body: bytes, strings: bytes) -> None:
        self.body, self.strings, self.at = body, strings, 0
        self.names: dict[int, str] = {}

    def tree(self) -> Node:
        """The root and everything in it."""
        open_nodes: list[tuple[str, list[tuple[str, bytes]], list[Node]]] = []
        while (token := self.token()) != FDT_END:
            if token == FDT_BEGIN_NODE:
                if len(open_nodes) == MAX_DEPTH:
                    raise _bad(f"nodes are nested more than {MAX_DEPTH} levels deep")
                open_nodes.append((self.node_name(), [], []))
                continue
            if token == FDT_NOP:
                continue
            if not open_nodes:
                raise _bad(f"token {token:#x} outside of a node")
            if token == FDT_PROP:
                open_nodes[-1][1].append(self.property())
            elif token == FDT_END_NODE:
                name, properties, children = open_nodes.pop()
                node = Node(name, tuple(properties), tuple(children))
                if not open_nodes:
                    self.end()
                    return node
                open_nodes[-1][2].append(node)
            else:
                raise _bad(f"unknown token {token:#x} at {self.at - 4:#x}")
        raise _bad("it ends inside of a node" if open_nodes else "it has no root")

    def end(self) -> None:
        """What follows the root."""
        while (token := self.token()) == FDT_NOP:
            pass
        if token != FDT_END:
            raise _bad(f"token {token:#x} after the root")

    def token(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def take(self, size: int) -> bytes:
        """The next bytes, and the padding after them."""
        if self.at + size > len(self.body):
            raise _bad(f"its structure block is truncated at {len(self.body):#x}")
        found = self.body[self.at : self.at + size]
        self.at += size + -size % 4
        return found

    def node_name(self) -> str:
        end = self.body.find(b"\0", self.at, self.at + MAX_NAME + 1)
        if end < 0:
            raise _bad(f"the name of a node at {self.at:#x} has no end")
        return self.take(end + 1 - self.at)[:-1].decode("latin-1")

    def property(self) -> tuple[str, bytes]:
        size, name = (int.from_bytes(self.take(4), "big") for _ in range(2))
        return self.property_name(name), self.take(size)

    def property_name(self, at: int) -> str:
        if at not in self.names:
            end = self.strings.find(b"\0", at, at + MAX_NAME + 1)
            if end < 0:
                raise _bad(f"the name of a property at {at:#x} of the strings has no end")
            self.names[at] = self.strings[at:end].decode("latin-1")
        return self.names[at]


def cells(value: int, count: int) -> bytes:
    """A number as `count` cells of 4 bytes. Raises OverflowError if it does not fit."""
    return value.to_bytes(4 * count, "big")


def address_ranges(value: bytes | None, widths: tuple[int, int]) -> list[tuple[int, int]]:
    """The (address, size) pairs of a `reg`, in bytes, by the numbers of their cells; none for a
    value of another length."""
    width, size_width = (4 * count for count in widths)
    whole = width + size_width
    if not value or not whole or len(value) % whole:
        return []
    return [
        (
            int.from_bytes(value[at : at + width], "big"),
            int.from_bytes(value[at + width : at + whole], "big"),
        )
        for at in range(0, len(value), whole)
    ]
