"""kexec-tools as an oracle: the load that it prepares for a made-up machine.

The files of the made-up machine are bind-mounted over the real ones in a separate mount namespace,
and a preloaded library intercepts the system call: no kernel ever gets it.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pykexec.memory.map import MemoryMap, RangeType
from tests.vm.debian import Unavailable
from tests.vm.supplies import Program

SHIM = Path(__file__).with_name("kexec_load_shim.c")
BOUND = ("/proc", "/sys/firmware", "/sys/kernel", "/sys/devices/system/cpu")
"""Paths that a made-up machine replaces, if it has them."""
REAL_PROC = ("self", "thread-self", "meminfo", "mounts", "sys", "filesystems", "cpuinfo", "stat")
"""Files that a made-up /proc has from the real one."""
LABELS = {
    RangeType.RAM: ("System RAM", "System RAM"),
    RangeType.RESERVED: ("Reserved", "Reserved"),
    RangeType.ACPI: ("ACPI Tables", "ACPI Tables"),
    RangeType.NVS: ("ACPI Non-volatile Storage", "ACPI Non-volatile Storage"),
}
"""The label of a range's type in /proc/iomem, and in /sys/firmware/memmap."""


@dataclass(frozen=True)
class OracleSegment:
    """A segment as passed to kexec_load(2)."""

    mem: int
    memsz: int
    buf: bytes

    @property
    def place(self) -> tuple[int, int, int]:
        return self.mem, self.memsz, len(self.buf)


@dataclass(frozen=True)
class OracleLoad:
    entry: int
    flags: int
    segments: tuple[OracleSegment, ...]

    def around(self, addr: int) -> OracleSegment:
        return next(s for s in self.segments if s.mem <= addr < s.mem + s.memsz)


def machine_tree(
    root: Path, memory_map: MemoryMap, cmdline: str, running: MemoryMap | None = None
) -> Path:
    """A folder with the /proc and /sys of a machine with this memory; `running` is the map of its
    running kernel, if that differs."""
    memmap = root / "sys/firmware/memmap"
    (root / "proc").mkdir(parents=True)
    iomem = ""
    for item in (running or memory_map).ranges:
        start, last = item.range.start, item.range.end - 1
        iomem += f"{start:08x}-{last:08x} : {LABELS[item.type][0]}\n"
    for number, item in enumerate(memory_map.ranges):
        entry = memmap / str(number)
        entry.mkdir(parents=True)
        start, last = item.range.start, item.range.end - 1
        in_memmap = LABELS[item.type][1]
        (entry / "start").write_text(f"{start:#x}\n")
        (entry / "end").write_text(f"{last:#x}\n")
        (entry / "type").write_text(f"{in_memmap}\n")
    (root / "proc/iomem").write_text(iomem)
    (root / "proc/cmdline").write_text(f"{cmdline}\n")
    (root / "proc/real").mkdir()
    for name in REAL_PROC:
        (root / "proc" / name).symlink_to(f"real/{name}")
    (root / "sys/kernel/boot_params").mkdir(parents=True)
    (root / "sys/kernel/boot_params/data").write_bytes(bytes(4096))
    return root


def build_shim(folder: Path) -> Path:
    """The library to preload; needs a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise Unavailable("no C compiler to build the library that catches kexec_load(2)")
    library = folder / "kexec_load_shim.so"
    command = [
        compiler,
        "-O1",
        "-Wall",
        "-Werror",
        "-shared",
        "-fPIC",
        "-o",
        str(library),
        str(SHIM),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Unavailable(f"the C compiler fails: {done.stderr.strip().splitlines()[-1]}")
    return library


def kexec_load(kexec: Program, shim: Path, tree: Path, *words: str, verb: str = "-l") -> OracleLoad:
    """What `kexec -c VERB WORDS` passes to the kernel on the machine of `tree`."""
    out = tree / "kexec_load"
    out.unlink(missing_ok=True)
    binds = [path for path in BOUND if Path(path).exists() and Path(f"{tree}{path}").exists()]
    script = f"mount --rbind /proc '{tree}/proc/real' && "
    script += "".join(f"mount --rbind '{tree}{path}' '{path}' && " for path in binds)
    namespace = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
    libraries = ":".join(map(str, kexec.library_folders))
    preload = f"LD_LIBRARY_PATH='{libraries}' LD_PRELOAD='{shim}'"
    inside = ["sh", "-c", f'{script}echo bound && {preload} "$0" "$@"']
    done = subprocess.run(
        [*namespace, *inside, str(kexec.path), "-c", verb, *words],
        env={**os.environ, "KEXEC_LOAD_TO": str(out), "LC_ALL": "C"},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
    )
    if not done.stdout.startswith("bound"):
        raise Unavailable(f"no mount namespace of our own: {done.stderr.strip()}")
    assert out.exists(), f"kexec refuses: {done.stderr}"
    return parse(out.read_bytes())


def parse(raw: bytes) -> OracleLoad:
    """The file that the library wrote."""
    entry, count, flags = struct.unpack_from("<QQQ", raw)
    offset = 24
    segments = []
    for _ in range(count):
        bufsz, mem, memsz = struct.unpack_from("<QQQ", raw, offset)
        offset += 24
        segments.append(OracleSegment(mem, memsz, raw[offset : offset + bufsz]))
        offset += bufsz
    assert offset == len(raw)
    return OracleLoad(entry, flags, tuple(segments))
