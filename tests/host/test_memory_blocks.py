"""Memory blocks as the kernel shows them, and the limit in time of what is written to one."""

from __future__ import annotations

import os
import signal
import struct
import threading
import time
from pathlib import Path

import pytest

from pykexec.host.captured import capture, decode, encode
from pykexec.host.memory_blocks import (
    KPAGEFLAGS,
    MEMORY,
    NODES,
    BlockRefused,
    BlockSystem,
    balloons,
    memory_blocks,
    page_kinds,
    swap_in_memory,
)
from pykexec.host.root import Folder
from pykexec.machine import Unknown
from pykexec.memory.blocks import MemoryBlock, MemoryBlocks, PageKinds
from pykexec.memory.ranges import PhysRange
from tests.builders import MIB

SIZE = 128 * MIB


def files(folder: Path, **contents: str) -> Folder:
    for path, text in contents.items():
        place = folder / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return Folder(folder)


def blocks(**more: str) -> dict[str, str]:
    found = {f"{MEMORY}/block_size_bytes": "8000000\n"}
    for number, (state, zones) in enumerate(
        [
            ("online", "none"),
            ("online", "DMA32"),
            ("online", "Movable"),
            ("offline", "DMA32 Movable"),
        ]
    ):
        found[f"{MEMORY}/memory{number}/state"] = f"{state}\n"
        found[f"{MEMORY}/memory{number}/valid_zones"] = f"{zones}\n"
        found[f"{NODES}/node0/memory{number}/state"] = ""
    return found | more


def test_as_the_kernel_shows_them(tmp_path: Path) -> None:
    root = files(tmp_path, **blocks())
    found = memory_blocks(root)
    assert found == MemoryBlocks(
        SIZE,
        (
            MemoryBlock(0, SIZE, "online", ("none",), 0),
            MemoryBlock(1, SIZE, "online", ("DMA32",), 0),
            MemoryBlock(2, SIZE, "online", ("Movable",), 0),
            MemoryBlock(3, SIZE, "offline", ("DMA32", "Movable"), 0),
        ),
    )
    assert [block.is_movable for block in found.blocks] == [False, False, True, False]
    assert [block.zone for block in found.blocks] == ["none", "DMA32", "Movable", "none"]
    assert memory_blocks(decode(encode(capture(root)), "captured")) == found


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({f"{MEMORY}/block_size_bytes": "7000000"}, "is not a valid block size"),
        ({f"{MEMORY}/block_size_bytes": "0"}, "is not a valid block size"),
        ({f"{MEMORY}/block_size_bytes": "x"}, "not a number"),
    ],
)
def test_what_makes_no_sense(tmp_path: Path, more: dict[str, str], word: str) -> None:
    found = memory_blocks(files(tmp_path, **(blocks() | more)))
    assert isinstance(found, Unknown)
    assert word in found.why


def test_a_kernel_without_memory_hotplug(tmp_path: Path) -> None:
    found = memory_blocks(Folder(tmp_path))
    assert isinstance(found, Unknown)
    assert "CONFIG_MEMORY_HOTPLUG" in found.why


def test_a_number_beyond_all_memory_is_ignored(tmp_path: Path) -> None:
    names = {f"{MEMORY}/memory99999999999/state": "online"}
    found = memory_blocks(files(tmp_path, **blocks(**names)))
    assert isinstance(found, MemoryBlocks)
    assert len(found.blocks) == 4


def test_page_kinds(tmp_path: Path) -> None:
    flags = {
        "free": 1 << 10,
        "user": 1 << 12 | 1 << 5,
        "cache": 1 << 5,
        "huge": 1 << 17 | 1 << 15,
        "slab": 1 << 7,
        "page_tables": 1 << 26,
        "reserved": 1 << 32,
        "offline": 1 << 23,
        "poisoned": 1 << 19 | 1 << 5,
        "missing": 1 << 20,
        "other": 0,
    }
    place = tmp_path / KPAGEFLAGS.lstrip("/")
    place.parent.mkdir(parents=True)
    place.write_bytes(struct.pack(f"<{len(flags) + 1}Q", 1 << 7, *flags.values()))
    root = Folder(tmp_path)
    assert page_kinds(PhysRange.sized(0x1000, len(flags) * 0x1000), 4096, root) == PageKinds(
        **dict.fromkeys(flags, 1)
    )
    assert isinstance(page_kinds(PhysRange.sized(0x1000, 1 << 20), 4096, root), Unknown)


def test_a_state_is_written(tmp_path: Path) -> None:
    root = files(tmp_path, **blocks())
    BlockSystem(root).set_state(1, "offline", 5)
    assert (tmp_path / f"{MEMORY}/memory1/state".lstrip("/")).read_text().startswith("offline")
    with pytest.raises(BlockRefused, match="memory7: not offline"):
        BlockSystem(root).set_state(7, "offline", 5)


def test_a_write_that_does_not_return_is_interrupted(tmp_path: Path) -> None:
    """A pipe nobody reads from blocks as `offline` does with a pinned page."""
    root = files(tmp_path, **blocks())
    state = tmp_path / f"{MEMORY}/memory1/state".lstrip("/")
    state.unlink()
    os.mkfifo(state)
    before = signal.getsignal(signal.SIGALRM)
    start = time.monotonic()
    with pytest.raises(BlockRefused, match=r"not offline after 0\.2 s"):
        BlockSystem(root).set_state(1, "offline", 0.2)
    assert time.monotonic() - start < 10
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_thread_has_no_alarm(tmp_path: Path) -> None:
    root = files(tmp_path, **blocks())
    worker = threading.Thread(target=BlockSystem(root).set_state, args=(1, "offline", 5))
    worker.start()
    worker.join()
    assert (tmp_path / f"{MEMORY}/memory1/state".lstrip("/")).read_text().startswith("offline")


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/sys/bus/virtio/drivers/virtio_balloon/virtio3/uevent", ("virtio_balloon",)),
        ("/sys/bus/virtio/drivers/virtio_balloon/bind", ()),
        (
            "/sys/bus/vmbus/drivers/hv_balloon/1eccfd72-4b41-45ef-b73a-4a6e44c12924/x",
            ("hv_balloon",),
        ),
        ("/sys/devices/system/xen_memory/xen_memory0/target_kb", ("xen_memory",)),
        ("/sys/module/vmw_balloon/initstate", ("vmw_balloon",)),
        ("/sys/module/virtio_balloon/initstate", ()),
    ],
)
def test_balloons(tmp_path: Path, path: str, found: tuple[str, ...]) -> None:
    root = files(tmp_path, **{path: "", "/sys/bus/pci/rescan": ""})
    assert balloons(root) == found


@pytest.mark.parametrize(
    ("contents", "found"),
    [
        ({"/sys/block/zram0/disksize": "1048576", "/sys/block/zram1/disksize": "0"}, ("zram0",)),
        ({"/sys/module/zswap/parameters/enabled": "Y"}, ("zswap",)),
        ({"/sys/module/zswap/parameters/enabled": "N", "/sys/block/sda/size": "9"}, ()),
    ],
)
def test_swap_in_memory(tmp_path: Path, contents: dict[str, str], found: tuple[str, ...]) -> None:
    root = files(tmp_path, **contents, **{"/sys/block/sdb/size": "9"})
    assert swap_in_memory(root) == found


def test_a_machine_without_sysfs(tmp_path: Path) -> None:
    assert isinstance(balloons(Folder(tmp_path)), Unknown)
    assert isinstance(swap_in_memory(Folder(tmp_path)), Unknown)
