"""The codec of device trees, compared with libfdt (dtc and fdtput of device-tree-compiler)."""

from __future__ import annotations

import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.abi.devicetree import (
    FDT_BEGIN_NODE,
    FDT_END,
    FDT_END_NODE,
    FDT_NOP,
    HEADER,
    MAX_DEPTH,
    MAX_NAME,
    BadDeviceTree,
    DeviceTree,
    Node,
    cells,
    parse_device_tree,
)

SOURCE = """/dts-v1/;
/memreserve/ 0x48000000 0x1000;
/ {
    #address-cells = <2>;
    #size-cells = <2>;
    compatible = "linux,dummy-virt";
    memory@40000000 { device_type = "memory"; reg = <0 0x40000000 0 0x40000000>; };
    psci { compatible = "arm,psci-1.0", "arm,psci-0.2"; method = "hvc"; };
    chosen { bootargs = "quiet"; rng-seed = <1 2 3 4>; empty; odd = [01 02 03 04 05]; };
    cpus { #size-cells = <0>; cpu@0 { reg = <0>; }; cpu@1 { reg = <1>; }; };
};
"""
TREE = DeviceTree(
    Node(
        "",
        (("#address-cells", cells(2, 1)), ("#size-cells", cells(1, 1)), ("empty", b"")),
        (
            Node("chosen", (("bootargs", b"quiet\0"),)),
            Node("cpus", (), (Node("cpu@0", (("reg", cells(0, 1)),)), Node("cpu@1"))),
        ),
    ),
    ((0x4000, 0x1000),),
    boot_cpu=1,
)
needs_dtc = pytest.mark.skipif(shutil.which("dtc") is None, reason="no dtc (device-tree-compiler)")


def dtc(folder: Path, blob: bytes) -> str:
    """A tree as libfdt reads it, as sorted source."""
    file = folder / "tree.dtb"
    file.write_bytes(blob)
    words = ["dtc", "-q", "-s", "-I", "dtb", "-O", "dts", str(file)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def compiled(folder: Path, source: str = SOURCE) -> bytes:
    words = ["dtc", "-q", "-I", "dts", "-O", "dtb", "-b", "1", "-p", "4096", "-"]
    return subprocess.run(words, input=source.encode(), capture_output=True, check=True).stdout


def test_it_is_read_as_it_was_written() -> None:
    assert parse_device_tree(TREE.encode()) == TREE
    assert parse_device_tree(TREE.encode() + b"what follows") == TREE


@needs_dtc
def test_libfdt_reads_what_is_written(tmp_path: Path) -> None:
    blob = compiled(tmp_path)
    tree = parse_device_tree(blob)
    assert (tree.boot_cpu, tree.reserved) == (1, ((0x48000000, 0x1000),))
    assert dtc(tmp_path, tree.encode()) == dtc(tmp_path, blob)


@needs_dtc
def test_a_change_is_that_of_libfdt(tmp_path: Path) -> None:
    """fdtput(1) does the same to the same tree. libfdt leaves FDT_NOP where nothing is left."""
    blob = compiled(tmp_path)
    file = tmp_path / "theirs"
    file.write_bytes(blob)
    for words in (
        ["-t", "s", str(file), "/chosen", "bootargs", "console=ttyAMA0 a=b"],
        ["-t", "x", str(file), "/chosen", "linux,initrd-start", "0", "48000000"],
        ["-d", str(file), "/chosen", "rng-seed"],
        ["-d", str(file), "/chosen", "nothing"],
    ):
        subprocess.run(["fdtput", *words], check=words[-1] != "nothing", capture_output=True)
    tree = parse_device_tree(blob)
    chosen = tree.node("/chosen")
    assert chosen
    changed = chosen.changed(
        {
            "bootargs": b"console=ttyAMA0 a=b\0",
            "linux,initrd-start": cells(0x48000000, 2),
            "rng-seed": None,
            "nothing": None,
        }
    )
    ours = replace(tree, root=tree.root.with_child(changed))
    assert dtc(tmp_path, ours.encode()) == dtc(tmp_path, file.read_bytes())


def test_nodes_are_found_with_and_without_their_address() -> None:
    assert TREE.node("/cpus/cpu@1") == Node("cpu@1")
    assert TREE.node("/cpus/cpu") == TREE.node("/cpus/cpu@0")
    assert TREE.node("/") == TREE.root
    assert TREE.node("/cpus/none/none") is None
    assert TREE.root.cells == (2, 1)
    assert Node("bus").cells == (2, 1)


def test_the_first_of_two_properties_counts_and_stays() -> None:
    node = Node("n", (("a", b"1"), ("a", b"2"), ("b", b"3")))
    assert node.get("a") == b"1"
    assert node.changed({"b": None}).properties == (("a", b"1"),)
    assert node.changed({"a": b"4", "c": b"5"}).properties == (
        ("a", b"4"),
        ("b", b"3"),
        ("c", b"5"),
    )


FIELDS = (
    *("magic", "total", "body", "strings", "reserved"),
    *("version", "compatible", "cpu", "n_strings", "n"),
)


def word(value: int) -> bytes:
    return struct.pack(">I", value)


def blob(body: bytes, strings: bytes = b"", /, **header: int) -> bytes:
    """A tree of this structure block, with these fields of its header."""
    at = HEADER.size + 16
    total = at + len(body) + len(strings)
    values = (0xD00DFEED, total, at, at + len(body), 40, 17, 16, 0, len(strings), len(body))
    fields = dict(zip(FIELDS, values, strict=True)) | header
    return HEADER.pack(*fields.values()) + bytes(16) + body + strings


BEGIN, END, STOP, NOP = map(word, (FDT_BEGIN_NODE, FDT_END_NODE, FDT_END, FDT_NOP))
ROOT = BEGIN + bytes(4) + END + STOP


def test_nop_is_skipped_everywhere() -> None:
    body = NOP + BEGIN + bytes(4) + NOP + NOP + BEGIN + b"a\0\0\0" + NOP + END + END + NOP + STOP
    assert parse_device_tree(blob(body)).root == Node("", (), (Node("a"),))


def test_version_16_has_no_size_of_the_structure() -> None:
    assert parse_device_tree(blob(ROOT, version=16, n=12345)).root == Node("")


def nested(depth: int) -> bytes:
    return (BEGIN + bytes(4)) * depth + END * depth + STOP


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "0 bytes"),
        (blob(ROOT, magic=1), "magic 0x1"),
        (blob(ROOT, total=1 << 20), "there are"),
        (blob(ROOT, total=1 << 31) + bytes(64), "at most 0x200000"),
        (blob(ROOT, version=15), "version 15"),
        (blob(ROOT, version=20, compatible=18), "compatible with 18"),
        (blob(ROOT, body=4), "the structure block"),
        (blob(ROOT, n=1 << 30), "the structure block"),
        (blob(ROOT, n_strings=1), "the strings"),
        (blob(ROOT, reserved=1 << 31), "the reserve map"),
        (blob(b"", strings=0, n_strings=0), "the strings"),
        (blob(BEGIN + bytes(4) + END), "truncated"),
        (blob(BEGIN + bytes(4) + STOP), "inside of a node"),
        (blob(STOP), "no root"),
        (blob(END + STOP), "outside of a node"),
        (blob(ROOT[:-4] + BEGIN + bytes(4) + END + STOP), "after the root"),
        (blob(BEGIN + bytes(4) + word(7) + END + STOP), "unknown token 0x7"),
        (blob(BEGIN + b"x" * (MAX_NAME + 1)), "has no end"),
        (blob(BEGIN + bytes(4) + word(3) + word(0) + word(0) + END + STOP), "of a property"),
        (blob(BEGIN + bytes(4) + word(3) + word(1 << 31) + word(0), b"a\0"), "truncated"),
        (blob(nested(MAX_DEPTH + 1)), f"more than {MAX_DEPTH}"),
    ],
)
def test_a_damaged_tree_is_an_error(raw: bytes, why: str) -> None:
    with pytest.raises(BadDeviceTree, match=why):
        parse_device_tree(raw)


def test_a_reserve_map_without_an_end_is_an_error() -> None:
    raw = blob(ROOT, b"\1" * 24, reserved=HEADER.size + 16 + len(ROOT))
    with pytest.raises(BadDeviceTree, match="no end"):
        parse_device_tree(raw)


def test_the_deepest_tree_is_read() -> None:
    tree = parse_device_tree(blob(nested(MAX_DEPTH)))
    assert parse_device_tree(tree.encode()) == tree


@given(st.binary(max_size=200), st.integers(0, 300), st.integers(0, 255))
def test_any_bytes_are_a_tree_or_an_error(tail: bytes, at: int, value: int) -> None:
    raw = bytearray(TREE.encode() + tail)
    raw[at % len(raw)] = value
    try:
        tree = parse_device_tree(bytes(raw))
    except BadDeviceTree:
        return
    assert parse_device_tree(tree.encode()) == tree
