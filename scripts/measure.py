"""Measures pykexec and the programs that it is compared with, in turn, and checks the ratios.

The programs run alternately, several times each and short ones more often, so that other load on
the computer affects all of them alike. The fastest run counts, since other load only adds to the
time. Wall time is measured here; processor time (user and system, all threads) and memory (peak
resident set) come from wait4. Only the standard library is used: a child's peak is at least that of
its parent.

kexec and pykexec-kexec run without CAP_SYS_BOOT: they prepare the load, and the system call always
fails.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import statistics
import sys
import time
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

INITRD_SIZE = 200 << 20
APPEND = "root=/dev/vda1 ro"
IDENTIFY = """
import sys
from pykexec.errors import KexecError
from pykexec.images.identify import identify
try:
    identify(sys.argv[1])
except KexecError:
    pass
"""
MISSED = 3
PR_CAPBSET_DROP, CAP_SYS_BOOT = 24, 22
REFUSED = 255
"""kexec's exit status if its system call failed, and for no earlier error."""


@dataclass
class Program:
    """A command, and the measured times and memory of its runs."""

    name: str
    argv: list[str]
    a_turn: int = 1
    libraries: str | None = None
    """LD_LIBRARY_PATH ("" for none) of a program that the kernel is expected to refuse."""
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    """Seconds on all processors, in the program and in the kernel for it."""
    kib: list[int] = field(default_factory=list)

    def run(self) -> None:
        """Run it once and discard its output."""
        started = time.perf_counter()
        pid = os.fork()
        if pid == 0:
            self.become()
        _, status, usage = os.wait4(pid, 0)
        self.seconds.append(time.perf_counter() - started)
        self.cpu.append(usage.ru_utime + usage.ru_stime)
        self.kib.append(usage.ru_maxrss)
        expected = 0 if self.libraries is None else REFUSED
        if os.waitstatus_to_exitcode(status) != expected:
            raise SystemExit(f"{' '.join(self.argv)}: ended with {status:#x}")

    def become(self) -> None:
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1) if self.libraries is None else (0, 1, 2):
            os.dup2(null, fd)
        if self.libraries is not None:
            os.environ["LD_LIBRARY_PATH"] = self.libraries
            dropped = ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_SYS_BOOT, 0, 0, 0)
            if dropped and os.geteuid() == 0:
                os._exit(1)
        os.execvp(self.argv[0], self.argv)


class Measure(Enum):
    """What a limit applies to."""

    WALL = "wall time"
    CPU = "processor time"
    MEMORY = "peak memory"

    def of(self, program: Program) -> float:
        """The shortest time, or the most memory."""
        match self:
            case Measure.WALL:
                return min(program.seconds)
            case Measure.CPU:
                return min(program.cpu)
            case Measure.MEMORY:
                return max(program.kib)


@dataclass(frozen=True)
class Limit:
    """The ratio of `program` to `reference`, or, without a reference, the wall time in seconds; and
    the largest allowed value."""

    what: str
    program: Program
    reference: Program | None
    limit: float
    measure: Measure = Measure.WALL

    @property
    def ratio(self) -> float:
        ours = self.measure.of(self.program)
        return ours / self.measure.of(self.reference) if self.reference else ours

    @property
    def title(self) -> str:
        return f"{self.what}, {self.measure.value}"

    @property
    def kept(self) -> bool:
        return self.ratio <= self.limit


def random_file(path: Path, size: int) -> Path:
    """Made once: an initrd that does not compress."""
    if not path.exists() or path.stat().st_size != size:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(f".{os.getpid()}")
        with aside.open("wb") as file:
            for _ in range(size >> 20):
                file.write(os.urandom(1 << 20))
        aside.rename(path)
    return path


def limits(kernel: str, kexec: str, libraries: str, initrd: Path) -> list[Limit]:
    """The limits, with the programs to run."""
    load = ["pykexec", "load", kernel, "--dry-run", "--append", APPEND]
    classic = [kexec, "-c", "-l", kernel, f"--append={APPEND}"]
    click = Program('python -c "import click"', ["python", "-c", "import click"], a_turn=5)
    usage = Program("pykexec --help", ["pykexec", "--help"], a_turn=5)
    bare = Program("pykexec load --dry-run", load)
    bare_classic = Program("kexec -c -l", classic, libraries=libraries)
    full = Program("pykexec load --dry-run, initrd", [*load, "--initrd", str(initrd)])
    full_classic = Program(
        "kexec -c -l, initrd", [*classic, f"--initrd={initrd}"], libraries=libraries
    )
    drop_in = Program(
        "pykexec-kexec -c -l, initrd",
        ["pykexec-kexec", "-c", "-l", kernel, f"--append={APPEND}", f"--initrd={initrd}"],
        libraries="",
    )
    identified = [
        Program(f"identify {what}", ["python", "-c", IDENTIFY, str(path)], a_turn=3)
        for what, path in (("a kernel", kernel), ("200 MB of anything", initrd))
    ]
    return [
        Limit("--help / import click", usage, click, 1.2, Measure.CPU),
        Limit("load / kexec", bare, bare_classic, 1.0, Measure.CPU),
        Limit("load / kexec, 200 MB initrd", full, full_classic, 1 / 3, Measure.CPU),
        Limit("load / kexec, 200 MB initrd", full, full_classic, 1 / 4),
        Limit("load / kexec, 200 MB initrd", full, full_classic, 1 / 4, Measure.MEMORY),
        Limit("pykexec-kexec / kexec, 200 MB", drop_in, full_classic, 1 / 3),
        *(Limit(f"{item.name}, seconds", item, None, 0.15) for item in identified),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description="compares speed and memory")
    parser.add_argument("--repeat", type=int, default=9, help="turns (default 9)")
    parser.add_argument("--kernel", required=True)
    parser.add_argument("--kexec", required=True)
    parser.add_argument("--libraries", required=True)
    parser.add_argument("--cache", type=Path, required=True)
    args = parser.parse_args()
    initrd = random_file(args.cache / "initrd-200M", INITRD_SIZE)
    wanted = limits(args.kernel, args.kexec, args.libraries, initrd)
    # Each program once, in the order of first use.
    programs = list({p.name: p for w in wanted for p in (w.program, w.reference) if p}.values())
    for turn in range(args.repeat + 1):
        for program in programs:
            for _ in range(program.a_turn):
                program.run()
            if turn == 0:  # the first turn only warms the page cache
                program.seconds.clear()
                program.cpu.clear()
                program.kib.clear()

    print(f"{'':32}  {'min':>8}  {'median':>8}  {'cpu':>8}  {'peak':>9}")
    for program in programs:
        median = statistics.median(program.seconds)
        times = f"{min(program.seconds) * 1e3:5.0f} ms  {median * 1e3:5.0f} ms"
        cpu = f"{min(program.cpu) * 1e3:5.0f} ms"
        print(f"{program.name:32}  {times}  {cpu}  {max(program.kib) / 1024:5.0f} MiB")
    print(f"\n{'':44}  {'ratio':>6}  {'limit':>6}")
    for item in wanted:
        verdict = "ok" if item.kept else "MISSED"
        print(f"{item.title:44}  {item.ratio:6.2f}  {item.limit:6.2f}  {verdict}")
    return 0 if all(item.kept for item in wanted) else MISSED


if __name__ == "__main__":
    sys.exit(main())
