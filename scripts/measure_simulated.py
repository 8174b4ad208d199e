"""Measures the simulated kernel, and the ELF core headers of the worst case.

Each window is measured in a separate process, because of its peak resident set. The kernel needs 51
MiB from its load address on: a window of 64 MiB holds it and little more. Memory is empty, except
in the last machine: there every frame in use is full of random bytes, which are then in the dump.
Most of that time is the disk's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MIB = 1 << 20
WINDOWS = (64, 128, 256, 512)
MEMORY = "4G"
SECONDS_LIMIT, MIB_LIMIT = 10.0, 300
WINDOW_OF_LIMIT = 256
HEADERS_LIMIT = 0.5
LINEAR_LIMIT = 2.0
"""The cost per MiB in the largest window, relative to the middle ones."""
MISSED = 3


def pykexec(*arguments: str) -> tuple[float, int, str]:
    """Seconds, peak KiB and standard output of one command."""
    started = time.perf_counter()
    child = subprocess.Popen(["pykexec", *arguments], stdout=subprocess.PIPE, text=True)
    assert child.stdout
    output = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = status
    if status:
        raise SystemExit(f"pykexec {' '.join(arguments)}: failed")
    return time.perf_counter() - started, usage.ru_maxrss, output


def fill(machine: str) -> None:
    """Write random bytes into every frame that the first kernel uses."""
    shown = json.loads(pykexec("machine", "show", machine, "--json")[2])
    with open(f"{machine}/ram", "r+b") as ram:
        for span in shown["in_use"]:
            start, end = int(span["start"], 16), int(span["end"], 16)
            ram.seek(start)
            ram.write(os.urandom(end - start))


def crash_by_normal(
    kernel: str, window: int, folder: Path, *, filled: bool = False
) -> tuple[list[float], int, int]:
    """Seconds of load, crash and verify; the peak in KiB; the number of program headers."""
    machine = str(folder / f"machine-{window}{'-filled' if filled else ''}")
    pykexec("machine", "create", machine, "--memory", MEMORY, "--allocator", "fragmented")
    if filled:
        fill(machine)
    load = ("load", kernel, "--crash-by-normal", "--crash-size", f"{window}M")
    steps = (
        (*load, "--machine", machine, "--json"),
        ("machine", "crash", machine),
        ("vmcore", "verify", f"{machine}/vmcore", "--machine", machine),
    )
    done = [pykexec(*step) for step in steps]
    headers = json.loads(done[0][2])["elfcorehdr"]["program_headers"]
    return [seconds for seconds, _, _ in done], max(kib for _, kib, _ in done), headers


def worst_headers() -> float:
    """Seconds to build 65,535 program headers and to read them back."""
    from pykexec.abi.elf import EHDR, PHDR
    from pykexec.arch import X86_64
    from pykexec.crash.elfcorehdr import OldMemory, ProgramHeader, build

    loads = [OldMemory(n * 8192, n * 8192 + 4096, 4096) for n in range(0xFFFF)]
    started = time.perf_counter()
    raw = build(0, [], loads, arch=X86_64, page_offset_base=0xFFFF888000000000)
    table = [ProgramHeader(*entry) for entry in PHDR.iter_unpack(raw[EHDR.size :])]
    seconds = time.perf_counter() - started
    assert len(table) == 0xFFFF
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser(description="the simulated kernel's speed")
    parser.add_argument("--kernel", required=True)
    args = parser.parse_args()
    total: dict[tuple[int, bool], float] = {}
    peak = 0
    print(f"{'window':>8}  {'load':>6}  {'crash':>6}  {'verify':>6}  {'all':>6}  peak     headers")
    with tempfile.TemporaryDirectory(prefix="pykexec-bench-") as folder:
        for window, filled in (*((size, False) for size in WINDOWS), (WINDOW_OF_LIMIT, True)):
            done = crash_by_normal(args.kernel, window, Path(folder), filled=filled)
            seconds, kib, headers = done
            total[window, filled] = sum(seconds)
            peak = max(peak, kib if window == WINDOW_OF_LIMIT else 0)
            times = "  ".join(f"{item:5.1f}s" for item in (*seconds, sum(seconds)))
            note = "  memory filled" if filled else ""
            print(f"{window:4} MiB  {times}  {kib / 1024:4.0f} MiB  {headers:7}{note}")
    headers_seconds = worst_headers()
    per_mib = {window: total[window, False] / window for window in WINDOWS}
    limits = (
        ("256 MiB window, seconds", total[WINDOW_OF_LIMIT, False], SECONDS_LIMIT),
        ("the same, memory filled", total[WINDOW_OF_LIMIT, True], SECONDS_LIMIT),
        ("256 MiB window, peak MiB", peak / 1024, MIB_LIMIT),
        ("a MiB of 512 against one of 128", per_mib[512] / per_mib[128], LINEAR_LIMIT),
        ("65,535 program headers, seconds", headers_seconds, HEADERS_LIMIT),
    )
    print()
    for what, found, limit in limits:
        verdict = "ok" if found <= limit else "MISSED"
        print(f"{what:34} {found:7.2f}  limit {limit:6.2f}  {verdict}")
    return 0 if all(found <= limit for _, found, limit in limits) else MISSED


if __name__ == "__main__":
    sys.exit(main())
