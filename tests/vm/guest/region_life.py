"""In the guest: the life cycle of a crash region made by the kernel module, without a panic.

    python3 -m guest.region_life MODULE    print a JSON document with the results

The module is inserted with the system call itself: this tests the module, not pykexec.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import mmap
import os
import platform
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from pykexec.arch import X86_64, arch_named
from pykexec.host.kernel_map import kcore_loads
from pykexec.host.root import THIS_MACHINE
from pykexec.host.running_kernel import symbol_table

from .pattern import PAGE

NUMBERS = (arch_named(platform.machine()) or X86_64).syscalls
KEXEC_LOAD, INIT_MODULE = NUMBERS.kexec_load, NUMBERS.init_module
DELETE_MODULE = NUMBERS.delete_module
KEXEC_ON_CRASH = 1
MADV_DONTNEED, MADV_NOHUGEPAGE = 4, 15
CRASH_SIZE = Path("/sys/kernel/kexec_crash_size")
IOMEM = Path("/proc/iomem")
KIB, MIB = 1 << 10, 1 << 20
CYCLES = 60
RACE_SECONDS = 10
WHOLE = 192 * MIB

libc = ctypes.CDLL(None, use_errno=True)


def syscall(*arguments: Any) -> str:
    """ "ok", or the name of the errno."""
    if libc.syscall(*arguments) >= 0:
        return "ok"
    return errno.errorcode[ctypes.get_errno()]


def symbols_in_code() -> dict[str, int]:
    return symbol_table(THIS_MACHINE, platform.machine(), kcore_loads(THIS_MACHINE)) or {}


class Module:
    """The module's file, and the addresses that it is passed."""

    def __init__(self, path: str) -> None:
        self.image = Path(path).read_bytes()
        wanted = {"crashk_res": 0, "__kexec_lock": 0, "iomem_resource": 0}
        for line in Path("/proc/kallsyms").read_text().splitlines():
            address, _, name = line.split()[:3]
            if name in wanted:
                wanted[name] = int(address, 16)
        if not wanted["crashk_res"]:  # without CONFIG_KALLSYMS_ALL
            wanted |= {name: at for name, at in symbols_in_code().items() if name in wanted}
        self.symbols = wanted

    def make(self, size: int, region: str = "crashk_res", lock: str = "__kexec_lock") -> str:
        values = f"region={self.symbols[region]} lock={self.symbols[lock]} size={size}"
        return self.insert(values)

    def insert(self, values: str) -> str:
        return syscall(
            INIT_MODULE,
            self.image,
            ctypes.c_ulong(len(self.image)),
            ctypes.c_char_p(values.encode()),
        )

    def release(self) -> str:
        return syscall(DELETE_MODULE, b"pykexec_region", ctypes.c_ulong(os.O_NONBLOCK))


def span() -> list[int] | None:
    """Start and end of the region, half-open; None if there is none."""
    found = re.search(r"([0-9a-f]+)-([0-9a-f]+) : Crash kernel", IOMEM.read_text())
    return [int(found[1], 16), int(found[2], 16) + 1] if found else None


def state() -> dict[str, Any]:
    """The state that must be the same before and after."""
    total = re.search(r"MemTotal: *(\d+)", Path("/proc/meminfo").read_text())
    assert total
    return {
        "iomem": IOMEM.read_text(),
        "total": int(total[1]),
        "size": CRASH_SIZE.read_text(),
        "modules": Path("/proc/modules").read_text(),
    }


def log_lines() -> list[str]:
    """The module's lines in the kernel log, and the kernel's warnings."""
    text = subprocess.run(["dmesg"], capture_output=True, text=True, check=True).stdout
    wanted = r"pykexec_region: |BUG|WARNING|Bad page|Oops|general protection"
    return [line for line in text.splitlines() if re.search(wanted, line)]


def refused(module: Module) -> dict[str, str]:
    """Bad input: the errno of each."""
    found = {
        "no addresses": module.insert(""),
        "lock as region": module.make(64 * KIB, region="__kexec_lock"),
        "another resource as region": module.make(64 * KIB, region="iomem_resource"),
        "region as lock": module.make(64 * KIB, lock="crashk_res"),
        "inside the region": module.insert(
            f"region={module.symbols['crashk_res'] + 8} lock={module.symbols['__kexec_lock']}"
        ),
        "user memory": module.insert(f"region=4096 lock={module.symbols['__kexec_lock']}"),
        "0": module.make(0),
        "3 KiB": module.make(3 * KIB),
        "6 KiB": module.make(6 * KIB),
        "5 GiB": module.make(5 << 30),
        "all memory": module.make(1 << 40),
        "half of memory": module.make(520 * MIB),
        "not contiguous": module.make(480 * MIB),
    }
    module.make(64 * KIB)
    found["inserted twice"] = module.make(64 * KIB)
    module.release()
    return found


def cycles(module: Module) -> dict[str, Any]:
    """Make and release repeatedly, from 4 KiB to 4 MiB, including an odd size."""
    results = Counter[str]()
    wrong = []
    for number in range(CYCLES):
        size = 4 * KIB << number % 11 if number else 100 * KIB
        results[module.make(size)] += 1
        found = span()
        if not found or found[1] - found[0] != size:
            wrong.append([size, found])
        results[module.release()] += 1
    return {"results": results, "wrong": wrong}


def by_the_kernel(module: Module) -> dict[str, Any]:
    """Shrink or release through kexec_crash_size, and make it again."""
    found = {"made": module.make(128 * KIB)}
    CRASH_SIZE.write_text(str(64 * KIB))
    found["shrunk"] = CRASH_SIZE.read_text().strip()
    found["rest released"] = module.release()
    found["after it"] = str(span())
    found["made again"] = module.make(128 * KIB)
    CRASH_SIZE.write_text("0")
    found["removed without a region"] = module.release()
    found["made over it"] = module.make(64 * KIB)
    found["released"] = module.release()
    found["at last"] = str(span())
    return found


def load(segments: int, at: int = 0, page: Any = None) -> str:
    record = (ctypes.c_ulong * 4)(ctypes.addressof(page) if page else 0, PAGE, at, PAGE)
    flags = ctypes.c_ulong(KEXEC_ON_CRASH)
    return syscall(KEXEC_LOAD, ctypes.c_ulong(at), ctypes.c_ulong(segments), record, flags)


def race(module: Module) -> dict[str, Any]:
    """One thread loads and unloads an image of one page, the other makes and releases the
    region."""
    loads, regions = Counter[str](), Counter[str]()
    end = time.monotonic() + RACE_SECONDS

    def keep_loading() -> None:
        page = ctypes.create_string_buffer(PAGE)
        while time.monotonic() < end:
            if found := span():
                for _ in range(20):
                    loads[load(1, found[1] - PAGE, page)] += 1
                    loads[f"un{load(0)}"] += 1
        while load(0) == "EBUSY":
            pass

    loader = threading.Thread(target=keep_loading)
    loader.start()
    while loader.is_alive():
        regions[module.make(64 * KIB)] += 1
        regions[f"un{module.release()}"] += 1
        while span():  # the region stays while an image is loaded
            with contextlib.suppress(OSError):
                CRASH_SIZE.write_text("0")
                regions["left"] += 1
    loader.join()
    return {"loads": loads, "regions": regions}


def whole(module: Module) -> dict[str, Any]:
    """A reservation of the usual size."""
    result = module.make(WHOLE)
    found = span()
    return {"result": result, "span": found, "released": module.release()}


def zones() -> list[list[Any]]:
    """Name, start and end of each zone with memory, in bytes, half-open."""
    found = []
    text = Path("/proc/zoneinfo").read_text()
    for name, part in re.findall(r"zone +(\w+)(.*?)(?=\nNode|\Z)", text, re.DOTALL):
        pages = re.search(r"spanned +(\d+)", part)
        start = re.search(r"start_pfn: +(\d+)", part)
        if pages and start and int(pages[1]):
            first = int(start[1])
            found.append([name, first * PAGE, (first + int(pages[1])) * PAGE])
    return found


def fragmented(module: Module) -> dict[str, Any]:
    """Use most of the memory, and free every second page of it: no two free pages are adjacent."""
    available = re.search(r"MemAvailable: *(\d+)", Path("/proc/meminfo").read_text())
    assert available
    size = int(available[1]) * KIB * 85 // 100 & -PAGE * 2
    memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(size), MADV_NOHUGEPAGE)
    for offset in range(0, size, PAGE):
        memory[offset] = 1
    for offset in range(0, size, 2 * PAGE):
        at = ctypes.c_void_p(address + offset)
        libc.madvise(at, ctypes.c_size_t(PAGE), MADV_DONTNEED)
    found: dict[str, Any] = {"taken": size}
    for wanted in (64 * KIB, MIB, 4 * MIB, 64 * MIB):
        began = time.monotonic()
        found[str(wanted)] = [module.make(wanted), round(time.monotonic() - began, 2)]
        module.release()
    found["kept"] = all(memory[offset] == 1 for offset in range(PAGE, size, 2 * PAGE))
    return found


def main(path: str) -> None:
    module = Module(path)
    before = state()
    found: dict[str, Any] = {"zones": zones(), "refused": refused(module)}
    found["after refusals"] = state() == before
    found["cycles"] = cycles(module)
    found["whole"] = whole(module)
    found["after cycles"] = state() == before
    found["fragmented"] = fragmented(module)
    found["after fragmentation"] = state() == before
    found["by the kernel"] = by_the_kernel(module)
    found["race"] = race(module)
    after = state()
    found["left over"] = {key: [before[key], after[key]] for key in ("total", "size", "modules")}
    found["log"] = log_lines()
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main(sys.argv[1])
