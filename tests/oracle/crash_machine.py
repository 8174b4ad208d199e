"""A made-up machine for crash loads: the files that a crash load of kexec-tools reads, and
`pykexec-kexec` as a program for the same namespace."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import pykexec
from pykexec.memory.map import MemoryMap
from pykexec.memory.ranges import PhysRange
from tests.host.conftest import DIRECT_MAP, kcore_headers
from tests.vm.supplies import Program

from .kexec_tools import machine_tree

TEXT = 0xFFFFFFFF81000000
KERNEL_AT, KERNEL_SIZE = 0x1000000, 0x2200000
VMCOREINFO = (0x3A001000, 0x1024)
NOTE_SIZE = 368


@dataclass(frozen=True)
class CrashMachine:
    """`cpus` has CPU numbers; `regions` the memory that crashkernel= reserved, inside RAM."""

    memory_map: MemoryMap
    regions: tuple[PhysRange, ...] = ()
    cpus: tuple[int, ...] = (0, 1)
    cmdline: str = "BOOT_IMAGE=/vmlinuz root=/dev/vda1 ro crashkernel=256M"

    @property
    def notes(self) -> list[tuple[int, int]]:
        """Address and size of each note, CPUs first."""
        cpus = [(0x3FC1B400 + number * 0x100000, NOTE_SIZE) for number in self.cpus]
        return [*cpus, VMCOREINFO]

    def tree(self, root: Path) -> Path:
        made = machine_tree(root, self.memory_map, self.cmdline)
        write_all(made, self.files)
        return made

    @property
    def files(self) -> dict[str, str | bytes]:
        kernel = self.kernel_line
        lines = []
        for item in self.memory_map.ranges:
            span = item.range
            lines.append(f"{span.start:08x}-{span.end - 1:08x} : {item.type}")
            inside = [
                (r.start, f"  {r.start:08x}-{r.end - 1:08x} : Crash kernel")
                for r in self.regions
                if r.start in span
            ]
            if KERNEL_AT in span:
                inside.append((KERNEL_AT, kernel))
            lines += [line for _, line in sorted(inside)]
        ram = self.memory_map.ram
        loads = [(DIRECT_MAP + span.start, span.start, span.size) for span in ram]
        files: dict[str, str | bytes] = {
            "proc/iomem": "\n".join(lines) + "\n",
            "proc/kcore": kcore_headers((TEXT, KERNEL_AT, KERNEL_SIZE), *loads),
            "proc/kallsyms": f"{TEXT:016x} T _stext\n{TEXT:016x} T _text\n",
            "sys/kernel/vmcoreinfo": f"{VMCOREINFO[0]:x} {VMCOREINFO[1]:x}\n",
            "sys/kernel/kexec_crash_size": f"{sum(r.size for r in self.regions)}\n",
            "sys/devices/system/cpu/possible": f"0-{len(self.cpus) - 1}\n",
            "sys/devices/system/cpu/online": f"0-{len(self.cpus) - 1}\n",
        }
        for number, (addr, size) in zip(self.cpus, self.notes, strict=False):
            folder = f"sys/devices/system/cpu/cpu{number}"
            files[f"{folder}/crash_notes"] = f"{addr:x}\n"
            files[f"{folder}/crash_notes_size"] = f"{size}\n"
        return files

    @property
    def kernel_line(self) -> str:
        return f"  {KERNEL_AT:08x}-{KERNEL_AT + KERNEL_SIZE - 1:08x} : Kernel code"


def write_all(root: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def drop_in(folder: Path) -> Program:
    """`pykexec-kexec`, installed or not."""
    path = folder / "kexec"
    package = Path(pykexec.__file__).parents[1]
    path.write_text(
        f"#!/bin/sh\nexport PYTHONPATH={package}\n"
        f'exec {sys.executable} -c "from pykexec.cli.kexec8 import main; main()" "$@"\n'
    )
    path.chmod(0o755)
    return Program(path)
