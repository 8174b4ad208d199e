"""In the guest: how long a load is inside kexec_load(2), and a panic while one is stopped there.

    python3 -m guest.held_load TIMES    load and unload TIMES times, and record the seconds
                                        that each load took; then stop one half way

A userfaultfd that is never answered stops it: the kernel waits for the bytes of the stub, and holds
its lock. Another call gets EBUSY; then the machine panics.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import struct
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path

from pykexec.abi.kexec import KEXEC_ARCH_X86_64, KexecFlag
from pykexec.backends.backend import Slot
from pykexec.backends.kernel.backend import KernelBackend
from pykexec.backends.kernel.calls import ThisKernel
from pykexec.flows.load import load
from pykexec.frozen import dataclass
from pykexec.libc import kexec_load, library, raw_syscall
from pykexec.placement.request import ImageKind, LoadRequest, Mode
from pykexec.syscalls import SyscallError

from .pattern import PAGE

USERFAULTFD = 323  # arch/x86/entry/syscalls/syscall_64.tbl
UFFD_API, UFFDIO_API = 0xAA, 0xC018AA3F  # include/uapi/linux/userfaultfd.h
UFFDIO_REGISTER, MODE_MISSING = 0xC020AA00, 1
MADV_REMOVE = 9
UFFD_MSG_BYTES = 32
Segments = Sequence[tuple[int, int, int, int]]


@dataclass(frozen=True, slots=True)
class Timed(ThisKernel):
    """The running kernel, with measurement of the system call."""

    seconds: list[float] = field(default_factory=list)

    def kexec_load(self, entry: int, segments: Segments, flags: int) -> None:
        began = time.perf_counter()
        kexec_load(entry, segments, flags)
        if segments:
            self.seconds.append(time.perf_counter() - began)


@dataclass(frozen=True, slots=True)
class Held(ThisKernel):
    """The running kernel, with a page that never arrives."""

    def kexec_load(self, entry: int, segments: Segments, flags: int) -> None:
        threading.Thread(target=panic_meanwhile, args=[take_away(segments[0][0])]).start()
        kexec_load(entry, segments, flags)


def take_away(addr: int) -> int:
    """Remove the page there, so that any access waits; returns a file that reports accesses."""
    fd = raw_syscall(ctypes.c_long(USERFAULTFD), ctypes.c_long(os.O_CLOEXEC))
    fcntl.ioctl(fd, UFFDIO_API, struct.pack("<QQQ", UFFD_API, 0, 0))
    fcntl.ioctl(fd, UFFDIO_REGISTER, struct.pack("<QQQQ", addr, PAGE, MODE_MISSING, 0))
    if library.madvise(ctypes.c_void_p(addr), ctypes.c_size_t(PAGE), MADV_REMOVE):
        raise OSError(ctypes.get_errno(), "madvise")
    return fd


def panic_meanwhile(fd: int) -> None:
    os.read(fd, UFFD_MSG_BYTES)  # the kernel has begun to wait
    try:
        kexec_load(0, [], int(KexecFlag.KEXEC_ON_CRASH) | KEXEC_ARCH_X86_64)
        answer = "0"
    except SyscallError as error:
        answer = errno.errorcode[error.errno]
    os.system(f"host mark 'another kexec_load: {answer}'")  # the host gets it before the panic
    ThisKernel().panic()


def main(times: int) -> None:
    wanted = LoadRequest(kind=ImageKind.CRASH_BY_NORMAL, mode=Mode.STUB_SWAP)
    timed = Timed()
    backend = KernelBackend(calls=timed)
    for _ in range(times):
        load("/boot/vmlinuz", backend, wanted)
        with backend.session():
            backend.unload(Slot.CRASH)
    Path("/out/seconds.json").write_text(json.dumps(timed.seconds))
    os.system("copyout /out")
    load("/boot/vmlinuz", KernelBackend(calls=Held()), wanted)


if __name__ == "__main__":
    main(int(sys.argv[1]))
