"""Addresses of data that the kernel does not name, from the instructions of functions that use it:
ADRP gives the page, and ADD, a load or a store the rest (Arm ARM, C6.2)."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pykexec.dump.faults import OutOfTime, UnknownKernel
from pykexec.errors import KexecError

if TYPE_CHECKING:
    from pykexec.dump.linux import Linux

CODE_MAX = 2048
"""Bytes of a function to read."""
BITS = (1 << 64) - 1
LOW_BITS = 12
LOW = (1 << LOW_BITS) - 1
"""What ADRP leaves out of an address, whatever the size of a page is."""
IMM9 = 12
"""Place of a signed offset in a load or store."""
CRASH_KERNEL = "Crash kernel"


def address(linux: Linux, name: str) -> int:
    """The address of this data. Raises UnknownKernel if no function shows it, OutOfTime."""
    function, fits = KNOWN.get(name, ("", _any))
    if not function:
        raise UnknownKernel(f"the kernel has no symbol {name}")
    used = [at for at in dict.fromkeys(references(linux, function)) if _fits(linux, at, fits)]
    if len(used) != 1:
        raise UnknownKernel(f"the kernel has no symbol {name}, and {function} does not show it")
    return used[0]


def references(linux: Linux, function: str) -> Iterator[int]:
    """The addresses that a function's instructions form, in their order. Raises UnknownKernel,
    NotInDump."""
    symbols = linux.symbols
    start = symbols.address(function)
    after = bisect_right(symbols.addresses, start)
    end = symbols.addresses[after] if after < len(symbols) else start + CODE_MAX
    size = min(end - start, CODE_MAX) & ~3
    held: dict[int, int] = {}
    for number, code in enumerate(array("I", linux.memory.read(start, size))):
        target, base = code & 31, held.get(code >> 5 & 31)
        if code & 0x9F000000 == 0x90000000:  # ADRP
            pages = _signed((code >> 5 & 0x7FFFF) << 2 | code >> 29 & 3, 21)
            held[target] = (start + number * 4 & ~LOW) + (pages << LOW_BITS) & BITS
        elif base is not None:
            offset = _offset(code)
            if offset is not None:
                yield base + offset & BITS
            if offset is not None and code & ADD_MASK == ADD:
                held[target] = base + offset & BITS


ADD_MASK, ADD = 0xFFC00000, 0x91000000


def _offset(code: int) -> int | None:
    """What an instruction adds to the register in bits 5 to 9: ADD of 64 bits, and loads and stores
    with an unsigned offset, a signed one, or an index, and of pairs."""
    if code & ADD_MASK == ADD:
        return code >> 10 & LOW
    if code & 0x3F000000 == 0x39000000:
        return (code >> 10 & LOW) << (code >> 30)
    if code & 0xFF800000 == 0xA9000000:
        return _signed(code >> 15 & 0x7F, 7) * 8
    if code & 0xFFA00000 == 0xF8000000 and code >> 10 & 3 in (0, 3):
        return _signed(code >> IMM9 & 0x1FF, 9)
    return None


def _signed(number: int, bits: int) -> int:
    return number - (number >> bits - 1 << bits)


Fits = Callable[["Linux", int], bool]
"""Whether what is at an address is what is wanted. May raise KexecError, which means no, except
OutOfTime."""


def _fits(linux: Linux, addr: int, fits: Fits) -> bool:
    try:
        return fits(linux, addr)
    except OutOfTime:
        raise
    except KexecError:
        return False


def _any(linux: Linux, addr: int) -> bool:
    return True


def _is_list(linux: Linux, addr: int) -> bool:
    """Whether there is a list_head whose neighbours point back."""
    memory = linux.memory
    after, before = memory.u64(addr), memory.u64(addr + 8)
    return memory.u64(after + 8) == addr == memory.u64(before)


def _is_crash_kernel(linux: Linux, addr: int) -> bool:
    name = linux.pointer(addr, "resource.name")
    return linux.memory.text(name, 32) == CRASH_KERNEL.encode()


def _is_current(linux: Linux, addr: int) -> bool:
    """Whether a per-CPU pointer points to a task of the same CPU, on the first CPU and on each
    other CPU that has one."""
    found = [linux.memory.u64(linux.per_cpu(0, addr))]
    for cpu in range(1, len(linux.per_cpu_offsets)):
        try:
            found.append(linux.memory.u64(linux.per_cpu(cpu, addr)))
        except OutOfTime:
            raise
        except KexecError:
            found.append(0)
    path = "task_struct.thread_info.cpu"
    if not linux.types.has(path):
        path = "task_struct.cpu"
    return found[0] != 0 and all(
        linux.number(task, path) == cpu for cpu, task in enumerate(found) if task
    )


KNOWN: dict[str, tuple[str, Fits]] = {
    "tainted_mask": ("get_taint", _any),
    "kexec_crash_image": ("kexec_crash_loaded", _any),
    "crashk_res": ("crash_get_memory_size", _is_crash_kernel),
    "modules": ("print_modules", _is_list),
    "__entry_task": ("__switch_to", _is_current),
}
"""Data: a function that uses it, and how to recognise it among what that function uses."""
