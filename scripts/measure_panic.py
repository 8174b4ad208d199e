"""Boots guests, lets them panic, and times the way to the capture kernel's first command.

Everything runs under TCG, several times slower than a processor: the seconds are for
comparing with each other. The guests have 3 GiB and two CPUs. (In a window of 64 MiB the stub
does its work, but Debian's kernel runs out of memory while it boots.)
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.vm import supplies
from tests.vm.debian import Unavailable
from tests.vm.lab import VM
from tests.vm.product import PYKEXEC, site

MEMORY_MIB = 3072
DEBIAN, RHEL = 192 << 20, 256 << 20
"""crashkernel= of a machine of 3 GiB: kdump-tools' 384M-:192M... and RHEL 9's 2G-64G:256M."""
REPEAT = 2
MISSED = 3
NOT_SLOWER = 1.25
"""Of the same way by kexec-tools; two runs of one guest differ by as much."""
APPEND = "console=ttyS0 earlyprintk=ttyS0 panic=1 quiet"
LOAD = f"{PYKEXEC} load /boot/vmlinuz --initrd /boot/initrd2 --backend kernel --append '{APPEND}'"
KEXEC = f"kexec -p /boot/vmlinuz --initrd=/boot/initrd2 --append='{APPEND} nr_cpus=1'"


@dataclass(frozen=True)
class Way:
    """A name, what is reserved, and the command that arms."""

    name: str
    reserved: int
    command: str


def by_normal(mode: str, mib: int) -> Way:
    options = f"--crash-by-normal --mode {mode} --crash-size {mib}M"
    return Way(f"{mode}, window of {mib} MiB", 64 << 10, f"{LOAD} {options}")


WAYS = (
    Way("kexec-tools, kexec -p", DEBIAN, KEXEC),
    Way("pykexec load --crash", DEBIAN, f"{LOAD} --crash"),
    by_normal("in-place", 192),
    *(by_normal("stub-swap", mib) for mib in (128, 256, 512)),
)


def seconds(vm: VM, way: Way) -> float:
    """From the panic to the capture kernel's first command."""
    print(f"... {way.name}", file=sys.stderr)
    first = f"""
        {way.command} > /out/load 2>&1
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
    ).expect(0)
    return result.seconds_at("second kernel") - result.seconds_at("panic")


def main() -> int:
    try:
        kernel = supplies.kernel(supplies.DEFAULT_SERIES)
        with tempfile.TemporaryDirectory(prefix="pykexec-bench-") as folder:
            vm = VM(kernel, Path(folder))
            turns = [[seconds(vm, way) for way in WAYS] for _ in range(REPEAT)]
    except Unavailable as unavailable:
        print(f"not measured: {unavailable.reason}", file=sys.stderr)
        return 1
    best = {way.name: min(times) for way, times in zip(WAYS, zip(*turns, strict=True), strict=True)}
    print(f"{'':34} {'reserved':>10}  panic to capture")
    for way in WAYS:
        print(f"{way.name:34} {way.reserved >> 10:8} K  {best[way.name]:6.1f} s")
    print(f"\nreserved by default: Debian {DEBIAN >> 20} MiB, RHEL {RHEL >> 20} MiB")
    ratio = best["in-place, window of 192 MiB"] / best[WAYS[0].name]
    print(f"in-place against kexec-tools: {ratio:.2f} times (limit {NOT_SLOWER})")
    return 0 if ratio <= NOT_SLOWER else MISSED


if __name__ == "__main__":
    sys.exit(main())
