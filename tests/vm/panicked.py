"""A guest that panics, and its memory as saved by QEMU, with the console before that. Made once for
each kernel and kept for the whole test run."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .lab import VM
from .machine import Qmp, Result
from .supplies import Kernel

MEMORY_MIB = 256
KEPT: list[Path] = []
"""Folders with dumps, for the end of the test run."""
LAST_LINE = "---[ end Kernel panic"
MODULES = ("qemu_fw_cfg", "loop")
"""The first one reports the address of VMCOREINFO to QEMU."""
FIRST = r"""
    exec 2> /dev/null
    python3 -m guest.blocked &
    ln -s /bin/busybox "/tmp/a) (b"
    (exec -a sleep "/tmp/a) (b" 1000) &
    printf '<4>control: a\tb \033[31mred \303\274ml \377 end\n' > /dev/kmsg
    printf '<4>two\nlines\n' > /dev/kmsg
    until cat /proc/[0-9]*/stat | grep -q '(python3) D'; do sleep 1; done
    sleep 2
    for process in /proc/[0-9]*; do
        cat $process/stat >> /out/stats
        echo "${process#/proc/} $(sed -n 's/^VmRSS://p' $process/status)" >> /out/rss
    done
    cat /proc/[0-9]*/task/[0-9]*/stat > /out/threads
    for name in modules kallsyms meminfo uptime sys/kernel/tainted; do
        cat /proc/$name > /out/${name##*/}
    done
    copyout /out
    taskset 2 sh -c 'echo c > /proc/sysrq-trigger'
    sleep 600
"""


@dataclass(frozen=True)
class Panicked:
    """`elf` and `kdump` were written by dump-guest-memory; `known` has files of the guest."""

    kernel: Kernel
    result: Result
    elf: Path
    kdump: Path

    @property
    def known(self) -> Path:
        return self.result.files / "first"

    @property
    def console(self) -> bytes:
        """The console as received, with only the kernel's output: the guest itself prints
        nothing."""
        return (self.result.files / "console.log").read_bytes()

    @property
    def symbols(self) -> dict[str, int]:
        """/proc/kallsyms; the first one if a name occurs several times."""
        found: dict[str, int] = {}
        for line in (self.known / "kallsyms").read_text().splitlines():
            addr, _, name = line.split()[:3]
            found.setdefault(name, int(addr, 16))
        return found


def saver(folder: Path) -> Callable[[str, Qmp], object]:
    """Saves the memory after the last line of a panic, and ends the machine."""

    def save(line: str, qmp: Qmp) -> None:
        if LAST_LINE not in line:
            return
        qmp("stop")
        for name, more in (("elf", {}), ("kdump", {"format": "kdump-zlib"})):
            target = {"paging": False, "protocol": f"file:{folder / name}"}
            qmp("dump-guest-memory", target | more)
        qmp("quit")

    return save


@cache
def panicked(
    kernel: Kernel, *, cpu: str = "", mem_mib: int = MEMORY_MIB, before: str = ""
) -> Panicked:
    """A panic by sysrq on the second of two CPUs, and everything logged on the console. `before` is
    a script that the guest runs first."""
    folder = Path(tempfile.mkdtemp(prefix="pykexec-panicked-"))
    KEPT.append(folder)
    result = VM(kernel, folder).run(
        before + FIRST,
        append="panic=0 ignore_loglevel",
        mem_mib=mem_mib,
        smp=2,
        cpu=cpu,
        python=True,
        modules=MODULES,
        arguments=("-device", "vmcoreinfo"),
        on_console=saver(folder),
    )
    if not (folder / "kdump").exists():
        raise AssertionError(f"no dump: {result.story()}")
    return Panicked(kernel, result, folder / "elf", folder / "kdump")


def remove_all() -> None:
    for folder in KEPT:
        shutil.rmtree(folder, ignore_errors=True)
