"""System calls without a function in Python: the only module that imports ctypes.

Every failure becomes a SyscallError; nothing is decided here. kexec needs system call numbers,
because C libraries have no wrappers (man 2 kexec_load).
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from collections.abc import Sequence
from errno import errorcode

from pykexec.abi.kexec import (
    LINUX_REBOOT_CMD_KEXEC,
    LINUX_REBOOT_MAGIC1,
    LINUX_REBOOT_MAGIC2,
    KexecFileFlag,
    kexec_load_text,
)
from pykexec.arch import ARCHITECTURES, Arch, SyscallNumbers, arch_named
from pykexec.errors import NotSupported
from pykexec.syscalls import SyscallError

MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE = 1, 2


library = ctypes.CDLL(None, use_errno=True)
library.syscall.restype = ctypes.c_long
library.mount.argtypes = [ctypes.c_char_p] * 3 + [ctypes.c_ulong, ctypes.c_char_p]
library.umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]
library.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


class SegmentRecord(ctypes.Structure):
    """struct kexec_segment: four words of the kernel's word size."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in ("buf", "bufsz", "mem", "memsz"))


def running_arch() -> Arch:
    """The architecture of the running kernel. A 32-bit Python on a 64-bit kernel would reach the
    compat entry, whose structures differ. Raises NotSupported."""
    uname = os.uname().machine
    arch = arch_named(uname)
    if arch is None or (sys.maxsize < 1 << 32 and arch.bits != 32):
        raise NotSupported(
            f"the kexec system calls of {uname} are unknown to pykexec",
            hint=f"known: {', '.join(item.name for item in ARCHITECTURES)}, "
            "with a Python of the same word size",
        )
    return arch


def numbers() -> SyscallNumbers:
    """The system call numbers of the running kernel. Raises NotSupported."""
    return running_arch().syscalls


def raw_syscall(*arguments: object) -> int:
    """syscall(2) itself; the errno is in ctypes.get_errno()."""
    return int(library.syscall(*arguments))


def check(result: int, call: str, hint: str | None = None) -> int:
    """The result; raises SyscallError if it is negative. `call` is the call as strace prints it."""
    if result < 0:
        raise SyscallError(call, ctypes.get_errno(), hint=hint)
    return result


def _explained(result: int) -> str | None:
    """Where to find the kernel's reasons for a failed kexec call."""
    name = errorcode.get(ctypes.get_errno(), "")
    return f"see pykexec explain {name} for the checks of the kernel" if result < 0 else None


def kexec_load(entry: int, segments: Sequence[tuple[int, int, int, int]], flags: int) -> None:
    """kexec_load(2); segments are (address of the bytes or 0, bufsz, mem, memsz).

    Without segments, the image is freed. `flags` are those of abi.kexec, including the
    architecture. The bytes must not move until this returns.
    """
    table = (SegmentRecord * max(1, len(segments)))()
    for record, (buf, bufsz, mem, memsz) in zip(table, segments, strict=False):
        record.buf, record.bufsz, record.mem, record.memsz = buf, bufsz, mem, memsz
    result = raw_syscall(
        ctypes.c_long(numbers().kexec_load),
        ctypes.c_ulong(entry),
        ctypes.c_ulong(len(segments)),
        ctypes.byref(table) if segments else None,
        ctypes.c_ulong(flags),
    )
    check(result, kexec_load_text(entry, len(segments), flags), _explained(result))


def kexec_file_load(kernel_fd: int, initrd_fd: int, cmdline: bytes, flags: int) -> None:
    """kexec_file_load(2); initrd_fd is -1 with KEXEC_FILE_NO_INITRAMFS.

    `cmdline` is without its NUL; with KEXEC_FILE_UNLOAD it is not passed at all.
    """
    unload = flags & KexecFileFlag.KEXEC_FILE_UNLOAD
    length = 0 if unload else len(cmdline) + 1
    result = raw_syscall(
        ctypes.c_long(numbers().kexec_file_load),
        ctypes.c_long(kernel_fd),
        ctypes.c_long(initrd_fd),
        ctypes.c_ulong(length),
        None if unload else ctypes.c_char_p(cmdline),
        ctypes.c_ulong(flags),
    )
    names = "|".join(str(flag.name) for flag in KexecFileFlag if flags & flag) or "0"
    check(
        result,
        f"kexec_file_load(kernel_fd={kernel_fd}, initrd_fd={initrd_fd}, "
        f"cmdline_len={length}, flags={names})",
        _explained(result),
    )


def reboot_kexec() -> None:
    """reboot(LINUX_REBOOT_CMD_KEXEC): start the loaded image immediately.

    Returns only if an image that preserves the context jumps back.
    """
    result = raw_syscall(
        ctypes.c_long(numbers().reboot),
        ctypes.c_ulong(LINUX_REBOOT_MAGIC1),
        ctypes.c_ulong(LINUX_REBOOT_MAGIC2),
        ctypes.c_ulong(LINUX_REBOOT_CMD_KEXEC),
        None,
    )
    check(result, "reboot(LINUX_REBOOT_CMD_KEXEC)", _explained(result))


def init_module(image: bytes, parameters: str) -> None:
    """init_module(2): insert a kernel module from its uncompressed bytes."""
    result = raw_syscall(
        ctypes.c_long(numbers().init_module),
        ctypes.c_char_p(image),
        ctypes.c_ulong(len(image)),
        ctypes.c_char_p(parameters.encode()),
    )
    check(result, f"init_module(len={len(image)})")


def finit_module(fd: int, parameters: str, flags: int = 0) -> None:
    """finit_module(2): insert a kernel module from a file, which security modules can check.

    The parameters do not appear in error messages: they may be addresses that are kept secret.
    """
    result = raw_syscall(
        ctypes.c_long(numbers().finit_module),
        ctypes.c_long(fd),
        ctypes.c_char_p(parameters.encode()),
        ctypes.c_ulong(flags),
    )
    check(result, f"finit_module(fd={fd}, flags={flags:#x})")


def delete_module(name: str) -> None:
    """delete_module(2) with O_NONBLOCK: do not wait for a module in use."""
    result = raw_syscall(
        ctypes.c_long(numbers().delete_module),
        ctypes.c_char_p(name.encode()),
        ctypes.c_ulong(os.O_NONBLOCK),
    )
    check(result, f'delete_module("{name}", O_NONBLOCK)')


def mount(source: str, target: str, fstype: str, flags: int, options: str) -> None:
    """mount(2)."""
    result = library.mount(
        os.fsencode(source), os.fsencode(target), fstype.encode(), flags, options.encode()
    )
    check(result, f'mount("{source}", "{target}", "{fstype}", {flags:#x}, "{options}")')


def umount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    result = library.umount2(os.fsencode(target), flags)
    check(result, f'umount2("{target}", {flags:#x})')


def fallocate(fd: int, mode: int, offset: int, size: int) -> None:
    """fallocate(2); os.posix_fallocate has no mode, and writes if it cannot allocate."""
    check(
        library.fallocate(fd, mode, offset, size),
        f"fallocate({fd}, {mode:#x}, {offset:#x}, {size:#x})",
    )


def address_of(memory: mmap.mmap) -> int:
    """Virtual address of a writable mapping; valid until it is closed."""
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))
