"""Measures programs that read a dump of 1 GiB whose log is full: the best wall time of several
runs, with processor time. Most of the time of a short Python program is the start of Python, which
has its own row; the last column is without it."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.dump.as_vmcore import vmcore_of
from tests.vm import supplies
from tests.vm.debian import Unavailable
from tests.vm.panicked import panicked

RUNS = 20
MEMORY_MIB = 1024
FILL_LOG = """
    i=0
    while [ $i -lt 3000 ]; do
        echo "<6>nvme nvme0: I/O $i QID 7 timeout, completion polled: a line of usual length" \\
            > /dev/kmsg
        i=$((i + 1))
    done
"""
"""More than the ring of Debian's kernel holds (128 KiB of text)."""
DMESG = "from pykexec.vmcore_dmesg import main; main()"
OPEN = "from pykexec.dump.reader import open_dump; open_dump({!r}).info"
DRGN = "import drgn; p = drgn.Program(); p.set_core_dump({!r}); p['VMCOREINFO']"


@dataclass(frozen=True)
class Row:
    """A program and its arguments."""

    name: str
    words: tuple[str, ...]
    folders: str = ""


def rows(vmcore: Path, compressed: Path, scratch: Path) -> list[Row]:
    """Grouped by the same work."""
    debian = {name: supplies.program(name) for name in ("vmcore-dmesg", "makedumpfile")}
    folders = ":".join(str(path) for tool in debian.values() for path in tool.library_folders)
    python = (sys.executable, "-c")
    dmesg, makedumpfile = (str(tool.path) for tool in debian.values())
    text = str(scratch / "text")
    report = (sys.executable, "-m", "pykexec", "vmcore", "report")
    return [
        Row("python -c pass", (*python, "pass")),
        Row("open: pykexec", (*python, OPEN.format(str(vmcore)))),
        Row("open: drgn", (*python, DRGN.format(str(vmcore)))),
        Row("log: vmcore-dmesg (C)", (dmesg, str(vmcore)), folders),
        Row("log: pykexec-vmcore-dmesg", (*python, DMESG, str(vmcore))),
        Row("log: makedumpfile --dump-dmesg",
            (makedumpfile, "-f", "--dump-dmesg", str(vmcore), text), folders),
        Row("log: pykexec, kdump-compressed", (*python, DMESG, str(compressed))),
        Row("report: pykexec", (*report, str(vmcore))),
        Row("report: pykexec, kdump-compressed", (*report, str(compressed))),
    ]  # fmt: skip


def measure(row: Row) -> tuple[float, float]:
    """(wall seconds, processor seconds) of the fastest run."""
    env = os.environ | ({"LD_LIBRARY_PATH": row.folders} if row.folders else {})
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed program has its bytecode
    best = (float("inf"), 0.0)
    for _ in range(RUNS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        subprocess.run(row.words, env=env, stdout=subprocess.DEVNULL, check=True)
        wall = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        best = min(best, (wall, used))
    return best


def main() -> None:
    kernel = supplies.kernel(supplies.DEFAULT_SERIES)
    crash = panicked(kernel, mem_mib=MEMORY_MIB, before=FILL_LOG)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        vmcore = vmcore_of(crash.elf, scratch / "vmcore", crash.symbols)
        print(f"{'':36}{'wall ms':>9}{'CPU ms':>9}{'without start':>15}")
        start = 0.0
        for row in rows(vmcore, crash.kdump, scratch):
            wall, used = measure(row)
            start = start or wall
            own = f"{(wall - start) * 1e3:15.1f}" if row.words[0] == sys.executable else ""
            print(f"{row.name:36}{wall * 1e3:9.1f}{used * 1e3:9.1f}{own}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except Unavailable as unavailable:
        raise SystemExit(unavailable.reason) from None
