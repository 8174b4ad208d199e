"""The seeds of each target: small valid inputs of each kind."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from pykexec.backends.simulated import SimulatedBackend
from pykexec.host import captured as host_captured
from pykexec.host.root import Folder
from pykexec.images.codecs import CODECS
from pykexec.images.contents import contents_bytes
from pykexec.memory.ranges import PhysRange
from tests.backends.simulated.images import capture_image, core_headers, load_bound, zero_page
from tests.builders import MIB, make_bzimage, make_cpio, pack, words
from tests.dump.arm64_kernel import ArmKernel
from tests.dump.builders import flattened, kdump
from tests.dump.kernel import PHYS_BASE
from tests.dump.test_vmcore_check import make_core
from tests.fuzz.targets import KERNEL_DATA, WHERE, small_arm_kernel, small_kernel
from tests.host.conftest import FILES, IOMEM, KALLSYMS
from tests.images.fixtures import FIXTURES

GOLDEN = Path(__file__).parent.parent / "golden"
WINDOW, LOW = PhysRange.sized(WHERE, 60 * 4096), (PhysRange(0x1000, 0x3000),)
"""Of a loaded image, and of its stub."""
PACKAGES = {"zstd": "zstandard", "lz4": "lz4", "lz4 (legacy)": "lz4"}


def fixtures(*names: str) -> list[bytes]:
    return [FIXTURES[name] for name in names]


def packed() -> list[bytes]:
    """A kernel in every codec whose package is installed."""
    names = [codec.name for codec in CODECS if codec.name != "lzo"]
    there = [name for name in names if name not in PACKAGES or find_spec(PACKAGES[name])]
    return [pack(make_bzimage(bytes(2000)), name) for name in there]


@cache
def loaded_machine() -> tuple[bytes, bytes]:
    """machine.json of a machine with a crash image, and the ELF core headers for it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m")
        backend = SimulatedBackend.create(path, 20 * MIB, seed=1, crashkernel=MIB)
        image = capture_image(WINDOW, LOW, headers=8 * 4096)
        headers = core_headers(backend.machine(), load_bound(backend, image), 0)
        return (path / "machine.json").read_bytes(), headers


def window_memory() -> bytes:
    """The start of the window after a switch: stub, tables, boot_params, kernel."""
    image = capture_image(WINDOW, LOW, headers=4096, cmdline="quiet", sealed=False)
    return b"".join(
        contents_bytes(part.buf, MIB).ljust(part.memsz, b"\0")
        for part in image.table.segments
        if part.buf
    )


def small_dumps() -> list[bytes]:
    """A kernel in each dump format."""
    kernel = small_kernel()
    return [
        kernel.elf(), kdump(kernel.memory), kdump(kernel.memory, with_info=False),
        flattened(kdump(kernel.memory)), ArmKernel().elf(), ArmKernel(names="all", meta=True).elf(),
    ]  # fmt: skip


def captured() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        for name, content in FILES.items():
            place = Path(folder, name.lstrip("/"))
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content.encode() if isinstance(content, str) else content)
        return host_captured.encode(host_captured.capture(Folder(Path(folder))))


def stage_journal() -> dict[str, object]:
    run = {"start": 1 << 30, "end": (1 << 30) + (64 << 20)}
    kept = [[1 << 32, 0], [(1 << 32) + (2 << 20), 1]]
    return {
        "schema": "pykexec.stage/1", "raised": 2, "before": 0, "after": 2, "kept": kept, "run": run,
        "gib_pages": None, "overcommit": 3,
    }  # fmt: skip


def load_record() -> dict[str, object]:
    return {
        "schema": "pykexec.loaded/1", "slot": "crash", "mode": "in-place", "kernel": "/boot/k",
        "since": 1, "window": [1 << 30, 2 << 30], "headers": [1 << 20, 2 << 20],
        "sums": [[1 << 30, 4096, "00"]], "entry": 4096, "segments": [[5, 4096, 8192]],
    }  # fmt: skip


def golden_plans() -> list[bytes]:
    return [path.read_bytes() for path in sorted(GOLDEN.glob("load*.json"))]


def utf8(*texts: str) -> list[bytes]:
    return [text.encode() for text in texts]


SEEDS: dict[str, Callable[[], Iterable[bytes]]] = {
    "bzimage": lambda: fixtures("bzImage64", "bzImage"),
    "elf": lambda: fixtures("vmlinux", "vmlinux-i386", "elf-x86_64", "elf-x86"),
    "multiboot": lambda: fixtures("multiboot", "multiboot2"),
    "uimage": lambda: fixtures("uImage"),
    "pe": lambda: fixtures("uki", "zboot"),
    "any_file": lambda: [*FIXTURES.values(), *packed()],
    "compression": packed,
    "initrd": lambda: [
        make_cpio(("init", b"#!/bin/sh\n"), ("etc/passwd", b"root")) + bytes(512),
        pack(make_cpio(("init", b"")), "gzip"),
    ],
    "iomem_text": lambda: utf8(IOMEM),
    "memmap_texts": lambda: utf8("0x0\n0x9fbff\nSystem RAM\n0x100000\n0x3ffdbfff\nReserved\n"),
    "machine_file": lambda: [loaded_machine()[0]],
    "ram_journal": lambda: [b"new page" * 512 * 8 + bytes((0, 1, 2, 3, 4, 2, 2, 0))],
    "page_list": lambda: [words(2, 0x5000 | 1, 0x9000 | 8, 0xA000 | 8, 4)],
    "plan": golden_plans,
    "vmcore": lambda: [make_core()],
    "dump_file": small_dumps,
    "dump_memory": lambda: [bytes(small_kernel().memory.ram[KERNEL_DATA:])],
    "dump_memory_arm64": lambda: [bytes(small_arm_kernel().memory.ram[PHYS_BASE:])],
    "vmcoreinfo": lambda: [
        small_kernel().memory.vmcoreinfo,
        small_arm_kernel().memory.vmcoreinfo,
    ],
    "elfcorehdr": lambda: [loaded_machine()[1]],
    "boot_params": lambda: [
        zero_page(WHERE + 4096, [(0, 0x9F000, 1), (MIB, 64 * MIB, 1)]) + b"elfcorehdr=64M\0"
    ],
    "stub": lambda: [window_memory()],
    "kallsyms": lambda: utf8(KALLSYMS),
    "kcore": lambda: [bytes(FILES["/proc/kcore"])],  # type: ignore[arg-type]
    "captured": lambda: [captured()],
    "stage_journal": lambda: utf8(json.dumps(stage_journal())),
    "load_record": lambda: utf8(json.dumps(load_record())),
    "kexec8_words": lambda: utf8(
        "-l\n/boot/vmlinuz\n--append=quiet\n--initrd\n/initrd", "-pd\nk\n--mem-min=0x1000", "-u"
    ),
}
