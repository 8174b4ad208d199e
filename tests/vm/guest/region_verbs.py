"""In the guest: refusals of the verbs for a crash region, modules built and compressed in other
ways, and verbs that are killed or interrupted half way. Prints a JSON document.

    python3 -m guest.region_verbs MODULE [OTHER-MODULE ...]

MODULE is the installed one. Everything except tests of processes runs in this process: starting
Python takes seconds here.
"""

from __future__ import annotations

import ctypes
import gzip
import json
import lzma
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from pykexec.cli.program import program

from .region_life import IOMEM, MIB, Module, state

PR_CAPBSET_DROP, CAP_SYS_MODULE = 24, 16
SIGNALS = (signal.SIGKILL, signal.SIGINT)
KILLS = 2
"""Number of kills of each kind."""
LARGE = 96 * MIB
"""Making it takes a while."""
LOCKDOWN = Path("/sys/kernel/security/lockdown")
SIG_ENFORCE = Path("/sys/module/module/parameters/sig_enforce")
OSRELEASE, KALLSYMS = Path("/proc/sys/kernel/osrelease"), Path("/proc/kallsyms")
MODULES = Path("/proc/modules")
PYKEXEC = (sys.executable, "-m", "pykexec")
KERNEL = ("--backend", "kernel", "--json")


def drop_capability() -> None:
    """In the child: it and the programs that it executes cannot insert modules."""
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_SYS_MODULE, 0, 0, 0)


def run(*words: str) -> dict[str, Any]:
    """Run a verb; returns its exit status and document."""
    done = CliRunner().invoke(program, [*words, *KERNEL], prog_name="pykexec")
    return {"status": done.exit_code, "document": json.loads(done.stdout)}


def run_without_capability(*words: str) -> dict[str, Any]:
    done = subprocess.run(
        [*PYKEXEC, *words, *KERNEL], stdout=subprocess.PIPE, preexec_fn=drop_capability
    )
    return {"status": done.returncode, "document": json.loads(done.stdout)}


def make(*words: str, by: Any = run) -> dict[str, Any]:
    """A refusal: its status and code, and whether the machine is unchanged."""
    was = state()
    found = by("region", "make", *words)
    document = found["document"]
    return {
        "status": found["status"],
        "code": document.get("error", {}).get("code"),
        "hint": bool(document.get("error", {}).get("hint")),
        "same": state() == was,
    }


@contextmanager
def replaced(file: Path, text: str) -> Iterator[None]:
    """Temporarily replace the contents of a file in /proc."""
    other = Path("/tmp/other")
    other.write_text(text)
    subprocess.run(["mount", "-o", "bind", other, file], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", file], check=True)


def setting(path: str, value: str) -> None:
    Path(path).write_text(value)


def refusals(module: Path) -> dict[str, Any]:
    found: dict[str, Any] = {size: make(size, "--force") for size in ("0", "3K", "5G", "480M")}
    other = Path("/tmp/other.ko")
    other.write_bytes(b"\x7fELF, and nothing of a module")
    found["no module"] = make("--module", str(other))
    release = OSRELEASE.read_text().strip()
    for first, name in (("9", "another kernel's"), ("5", "untested")):
        renamed = first + release[1:]  # of the same length
        other.write_bytes(module.read_bytes().replace(release.encode(), renamed.encode()))
        if first == "9":
            found[name] = make("--module", str(other))
            continue
        with replaced(OSRELEASE, renamed):
            found[name] = make("--module", str(other))
            made = run("region", "make", "--module", str(other), "--force")["status"]
            found["forced"] = [made, run("region", "release")["status"]]
    with replaced(KALLSYMS, swapped_symbols()):
        found["wrong addresses"] = make("--force")
    setting("/proc/sys/kernel/kptr_restrict", "2")
    found["kptr_restrict"] = make("--force")
    setting("/proc/sys/kernel/kptr_restrict", "1")
    found["capability"] = make("--force", by=run_without_capability)
    run("region", "make", "--force")
    found["exists"] = make("--force")
    found["released"] = run("region", "release")["status"]
    found["released twice"] = run("region", "release")["status"]
    return found


def swapped_symbols() -> str:
    """/proc/kallsyms with the addresses of the two symbols swapped."""
    lines = KALLSYMS.read_text().splitlines()
    wanted = [line.split() for line in lines if line.endswith((" crashk_res", " __kexec_lock"))]
    (first, _, one), (second, _, other) = wanted
    return f"{second} D {one}\n{first} D {other}\n"


def at_last(module: Path) -> dict[str, Any]:
    """Tests that cannot be undone before the next boot."""
    subprocess.run(["mount", "-t", "securityfs", "none", "/sys/kernel/security"], check=True)
    found: dict[str, Any] = {}
    SIG_ENFORCE.write_text("Y")  # as module.sig_enforce=1 on the kernel's command line
    found["sig_enforce"] = make("--force")
    found["sig_enforce, by the kernel"] = Module(str(module)).make(64 << 10)
    if LOCKDOWN.exists():
        LOCKDOWN.write_text("integrity")
        found["lockdown"] = make("--force")
    setting("/proc/sys/kernel/modules_disabled", "1")
    found["modules_disabled"] = make("--force")
    return found


def others(module: Path, more: Sequence[str]) -> dict[str, Any]:
    """Other module files: each makes a region that can be released."""
    image = module.read_bytes()
    packed = {".gz": gzip.compress(image), ".xz": lzma.compress(image)}
    files = [Path(f"/tmp/pykexec_region.ko{suffix}") for suffix in packed]
    for path, data in zip(files, packed.values(), strict=True):
        path.write_bytes(data)
    found = {}
    for path in (*files, *map(Path, more)):
        made = run("region", "make", "128K", "--force", "--module", str(path))
        found[path.name] = [made["document"].get("size"), run("region", "release")["status"]]
    return found


def region_size() -> int:
    """Bytes; 0 for none."""
    for line in IOMEM.read_text().splitlines():
        if line.endswith("Crash kernel"):
            first, last = line.split(" : ")[0].strip().split("-")
            return int(last, 16) + 1 - int(first, 16)
    return 0


def hit(command: Sequence[str], number: signal.Signals, seconds: float) -> int:
    """The region that exists after the process has ended, which got a signal `seconds` after the
    module had started."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and "pykexec_region" not in MODULES.read_text():
        time.sleep(0.01)
    time.sleep(seconds)
    process.send_signal(number)
    process.wait()
    return region_size()


def kills() -> dict[str, Any]:
    """Kills while the region is made leave a complete region or none. The next program releases
    it."""
    words = ("region", "make", str(LARGE), "--force")
    began = time.monotonic()
    run(*words)
    whole = time.monotonic() - began
    run("region", "release")
    was, draw = state(), random.Random(1)
    sizes: dict[str, Counter[int]] = {number.name: Counter() for number in SIGNALS}
    for number in SIGNALS * KILLS:
        size = hit([*PYKEXEC, *words, *KERNEL], number, whole * draw.random())
        sizes[number.name][size] += 1
        if size:
            run("region", "release")
        assert state() == was, (state(), was)
    return sizes


def main(path: str, *more: str) -> None:
    module = Path(path)
    found: dict[str, Any] = {"shown without": run("region", "show")["status"]}
    found["refusals"] = refusals(module)
    found["others"] = others(module, more)
    found["kills"] = kills()
    found["refusals"] |= at_last(module)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main(*sys.argv[1:])
