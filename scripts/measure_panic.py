"""Boots guests, makes them panic, and measures the time until the capture kernel runs.

Everything runs under TCG, several times slower than a processor: compare the times only with each
other. The guests have 3 GiB and two CPUs. The times are those at which lines arrived over the
serial console: those of the stub, and the capture kernel's banner. In a window of 64 MiB the stub
does its work, but Debian's kernel runs out of memory while it boots.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pykexec.abi.hugetlb import HUGE_PAGE_SIZE
from tests.vm import supplies
from tests.vm.debian import Unavailable
from tests.vm.lab import VM
from tests.vm.product import PYKEXEC, site

MEMORY_MIB = 3072
DEBIAN, RHEL = 192 << 20, 256 << 20
"""crashkernel= of a machine of 3 GiB: kdump-tools' 384M-:192M... and RHEL 9's 2G-64G:256M."""
REPEAT = 2
MISSED = 3
NOT_SLOWER = 1.0
"""Mode in-place compared with kexec-tools, from the panic to the first line."""
APPEND = "loglevel=6 console=ttyS0 earlyprintk=ttyS0 panic=1"
"""The banner has the level notice: loglevel=6 shows it, and little else."""
CHECKING, STARTING, BANNER = "pykexec: checking", "pykexec: starting", "Linux version"
LOAD = f"{PYKEXEC} load /boot/vmlinuz --initrd /boot/initrd2 --backend kernel --append '{APPEND}'"
KEXEC = f"kexec -p /boot/vmlinuz --initrd=/boot/initrd2 --append='{APPEND} nr_cpus=1'"


@dataclass(frozen=True)
class Way:
    """A name, what is reserved in bytes, and the command that arms."""

    name: str
    reserved: int
    command: str
    has_stub: bool = True
    boots: bool = True
    """Whether the capture kernel gets as far as its first command."""


@dataclass(frozen=True)
class Times:
    """Seconds of one run: from the panic to the capture kernel's first line and to its first
    command, None if it does not boot; and the part of that in our stub, None without a stub.
    `held` is in bytes: the memory that is in use while the crash dump is armed."""

    line: float
    command: float | None
    stub: float | None
    held: int


def by_normal(mode: str, mib: int, boots: bool = True, more: str = "") -> Way:
    options = f"--crash-by-normal --mode {mode} --crash-size {mib}M {more}".rstrip()
    return Way(f"{mode}, window of {mib} MiB", 64 << 10, f"{LOAD} {options}", boots=boots)


KEXEC_TOOLS = Way("kexec-tools, kexec -p", DEBIAN, KEXEC, has_stub=False)
IN_PLACE = by_normal("in-place", 192)
WAYS = (
    KEXEC_TOOLS,
    Way("pykexec load --crash", DEBIAN, f"{LOAD} --crash"),
    IN_PLACE,
    by_normal("stub-swap", 64, boots=False),
    *(by_normal("stub-swap", mib) for mib in (128, 192, 256, 512)),
    by_normal("lent", 192, more="--settle 0"),
)
BESIDE_KDUMP = (KEXEC_TOOLS, IN_PLACE, WAYS[5], WAYS[-1])
"""One window size, for --short."""


def timed(vm: VM, way: Way) -> Times:
    """The panic of one guest."""
    print(f"... {way.name}", file=sys.stderr)
    first = f"""
        {way.command} > /out/load 2>&1
        cat /proc/sys/vm/nr_hugepages > /out/pages
        copyout /out
        host mark panic
        echo c > /proc/sysrq-trigger
        sleep 60
    """
    result = vm.run(
        first,
        "test -s /proc/vmcore",
        append=f"crashkernel={way.reserved >> 10}K",
        mem_mib=MEMORY_MIB,
        smp=2,
        python=True,
        site=site(),
        programs=["kexec"],
    )
    if way.boots:
        result.expect(0)
    panic, line = result.seconds_at("panic"), result.seconds_at_console(BANNER)
    assert line > panic, "the capture kernel's first line was not seen"
    stub = None
    if way.has_stub:
        checking = result.seconds_at_console(CHECKING, first=True)  # it checks again later
        stub = result.seconds_at_console(STARTING) - checking
    command = result.seconds_at("second kernel") - panic if way.boots else None
    pages = int((result.files / "first/pages").read_text())
    return Times(line - panic, command, stub, way.reserved + pages * HUGE_PAGE_SIZE)


def best(turns: tuple[Times, ...]) -> Times:
    """The shortest of each, since other load only adds to the time."""
    commands = [times.command for times in turns if times.command is not None]
    stubs = [times.stub for times in turns if times.stub is not None]
    return Times(
        min(times.line for times in turns),
        min(commands, default=None),
        min(stubs, default=None),
        max(times.held for times in turns),
    )


def row(way: Way, times: Times) -> str:
    line, command, stub = (
        "-" if seconds is None else f"{seconds:.1f} s"
        for seconds in (times.line, times.command, times.stub)
    )
    reserved, held = f"{way.reserved >> 10} K", f"{times.held / (1 << 20):.0f} M"
    return f"{way.name:30} {reserved:>10} {held:>6}  {stub:>7}  {line:>10}  {command:>13}"


def main() -> int:
    short = "--short" in sys.argv[1:]
    ways, repeat = (BESIDE_KDUMP, 1) if short else (WAYS, REPEAT)
    try:
        kernel = supplies.kernel(supplies.DEFAULT_SERIES)
        with tempfile.TemporaryDirectory(prefix="pykexec-bench-") as folder:
            vm = VM(kernel, Path(folder))
            turns = [[timed(vm, way) for way in ways] for _ in range(repeat)]
    except Unavailable as unavailable:
        print(f"not measured: {unavailable.reason}", file=sys.stderr)
        return 1
    found = dict(zip(ways, map(best, zip(*turns, strict=True)), strict=True))
    heads = f"{'reserved':>10} {'held':>6}  {'stub':>7}  {'first line':>10}  first command"
    print(f"{'':30} {heads}")
    for way, times in found.items():
        print(row(way, times))
    print(f"\nreserved by default: Debian {DEBIAN >> 20} MiB, RHEL {RHEL >> 20} MiB")
    ratio = found[IN_PLACE].line / found[KEXEC_TOOLS].line
    print(f"first line, in-place against kexec-tools: {ratio:.2f} times (limit {NOT_SLOWER:g})")
    return 0 if ratio <= NOT_SLOWER else MISSED


if __name__ == "__main__":
    sys.exit(main())
