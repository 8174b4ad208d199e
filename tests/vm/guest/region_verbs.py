"""In the guest: the verbs of a crash region where they refuse, with compressed modules, and killed
half way. Prints one JSON document.

    python3 -m guest.region_verbs MODULE
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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .region_life import IOMEM, state

PR_CAPBSET_DROP, CAP_SYS_MODULE = 24, 16
KILLS = 5
LARGE = "192M"
LOCKDOWN = Path("/sys/kernel/security/lockdown")
PYKEXEC = (sys.executable, "-m", "pykexec")
KERNEL = ("--backend", "kernel", "--json")


def drop_capability() -> None:
    """In the child: it and what it executes cannot insert modules."""
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_SYS_MODULE, 0, 0, 0)


def run(*words: str, before: Any = None) -> dict[str, Any]:
    """A verb's exit status and document."""
    done = subprocess.run(
        [*PYKEXEC, *words, *KERNEL], stdout=subprocess.PIPE, text=True, preexec_fn=before
    )
    return {"status": done.returncode, "document": json.loads(done.stdout)}


def make(*words: str, before: Any = None) -> dict[str, Any]:
    """A refusal: its status and code, and whether the machine is as it was."""
    was = state()
    found = run("region", "make", *words, before=before)
    document = found["document"]
    return {
        "status": found["status"],
        "code": document.get("error", {}).get("code"),
        "hint": bool(document.get("error", {}).get("hint")),
        "same": state() == was,
    }


def setting(path: str, value: str) -> None:
    Path(path).write_text(value)


def refusals(module: Path) -> dict[str, Any]:
    found = {size: make(size) for size in ("0", "3K", "5G")}
    other = Path("/tmp/other.ko")
    release = Path("/proc/sys/kernel/osrelease").read_text().strip().encode()
    other.write_bytes(module.read_bytes().replace(release, b"9" + release[1:]))
    found["another kernel's"] = make("--module", str(other))
    other.write_bytes(b"\x7fELF, and nothing of a module")
    found["no module"] = make("--module", str(other))
    setting("/proc/sys/kernel/kptr_restrict", "2")
    found["kptr_restrict"] = make("--force")
    setting("/proc/sys/kernel/kptr_restrict", "1")
    found["capability"] = make("--force", before=drop_capability)
    run("region", "make", "--force")
    found["exists"] = make("--force")
    found["released"] = run("region", "release")["status"]
    found["released twice"] = run("region", "release")["status"]
    return found


def at_last() -> dict[str, Any]:
    """What cannot be undone before the next boot."""
    subprocess.run(["mount", "-t", "securityfs", "none", "/sys/kernel/security"], check=True)
    found = {}
    if LOCKDOWN.exists():
        LOCKDOWN.write_text("integrity")
        found["lockdown"] = make("--force")
    setting("/proc/sys/kernel/modules_disabled", "1")
    found["modules_disabled"] = make("--force")
    return found


def compressed(module: Path) -> dict[str, Any]:
    """Unpacked by pykexec, whatever the kernel itself could do."""
    found = {}
    for suffix, pack in ((".gz", gzip.compress), (".xz", lzma.compress)):
        path = Path(f"/tmp/pykexec_region.ko{suffix}")
        path.write_bytes(pack(module.read_bytes()))
        made = run("region", "make", "128K", "--force", "--module", str(path))
        found[suffix] = [made["document"].get("size"), run("region", "release")["status"]]
    return found


def region_size() -> int:
    """Bytes; 0 for none."""
    for line in IOMEM.read_text().splitlines():
        if line.endswith("Crash kernel"):
            first, last = line.split(" : ")[0].strip().split("-")
            return int(last, 16) + 1 - int(first, 16)
    return 0


def killed(command: Sequence[str], seconds: float) -> int:
    """The region that is there after the process has gone."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return region_size()


def kills() -> dict[str, Any]:
    """While it is made: a complete region or none. It is released by whoever comes next."""
    command = [*PYKEXEC, "region", "make", LARGE, "--force", *KERNEL]
    began = time.monotonic()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    whole = time.monotonic() - began
    run("region", "release")
    was, sizes = state(), Counter[int]()
    draw = random.Random(1)
    for _ in range(KILLS):
        size = killed(command, whole * draw.uniform(0.5, 1.0))
        sizes[size] += 1
        if size:
            run("region", "release")
        assert state() == was, (state(), was)
    return {str(size): times for size, times in sizes.items()}


def main(path: str) -> None:
    module = Path(path)
    found: dict[str, Any] = {"shown without": run("region", "show")["status"]}
    found["refusals"] = refusals(module)
    found["compressed"] = compressed(module)
    found["kills"] = kills()
    found["refusals"] |= at_last()
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main(sys.argv[1])
