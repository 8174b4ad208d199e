"""The arguments as the kernel gets them, and the errors as strace prints them.

Nothing here calls kexec or reboot: `raw_syscall` is replaced.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pykexec import libc
from pykexec.abi.kexec import KEXEC_ARCH_386, KEXEC_ARCH_X86_64, KexecFileFlag, KexecFlag
from pykexec.errors import NotSupported
from pykexec.syscalls import SyscallError, exit_status_of

FLAGS = KexecFlag.KEXEC_ON_CRASH | KEXEC_ARCH_X86_64
Answer = Callable[[int], list[tuple[object, ...]]]

MNT_DETACH = 2


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Answer:
    """The next calls fail with this errno (0: succeed); their arguments are recorded."""

    def set_answer(number: int) -> list[tuple[object, ...]]:
        seen: list[tuple[object, ...]] = []

        def fake(*arguments: object) -> int:
            seen.append(arguments)
            ctypes.set_errno(number)
            return -1 if number else 0

        monkeypatch.setattr(libc, "raw_syscall", fake)
        monkeypatch.setattr(os, "uname", lambda: uname("x86_64"))
        return seen

    return set_answer


def values(arguments: tuple[object, ...]) -> list[object]:
    return [getattr(argument, "value", argument) for argument in arguments]


def test_kexec_load_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    tables: list[bytes] = []

    def fake(number: object, entry: object, count: object, table: object, flags: object) -> int:
        tables.append(bytes(table._obj))  # type: ignore[attr-defined]
        assert values((number, entry, count, flags)) == [246, (1 << 63) + 1, 2, FLAGS]
        return 0

    monkeypatch.setattr(libc, "raw_syscall", fake)
    monkeypatch.setattr(os, "uname", lambda: uname("x86_64"))
    libc.kexec_load((1 << 63) + 1, [(0, 0, 0x1000, 0x9E000), (0x7F00, 3, 0x100000, 4096)], FLAGS)
    assert tables == [struct.pack("<8Q", 0, 0, 0x1000, 0x9E000, 0x7F00, 3, 0x100000, 4096)]


def uname(machine: str) -> os.uname_result:
    return os.uname_result(("Linux", "host", "6.1", "#1", machine))


def test_a_32_bit_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no kexec_file_load: the number -1 is ENOSYS, and 320 would be utimensat."""
    monkeypatch.setattr(os, "uname", lambda: uname("i686"))
    monkeypatch.setattr(sys, "maxsize", (1 << 31) - 1)
    found = libc.numbers()
    assert (found.kexec_load, found.kexec_file_load, found.reboot) == (283, -1, 88)
    assert libc.running_arch().kexec_arch == KEXEC_ARCH_386


def test_a_32_bit_python_over_a_64_bit_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: uname("x86_64"))
    monkeypatch.setattr(sys, "maxsize", (1 << 31) - 1)
    with pytest.raises(
        NotSupported, match="the kexec system calls of x86_64 are unknown to pykexec"
    ):
        libc.numbers()


def test_unload_passes_no_table(answer: Answer) -> None:
    seen = answer(0)
    libc.kexec_load(0, [], KEXEC_ARCH_X86_64)
    assert values(seen[0]) == [246, 0, 0, None, KEXEC_ARCH_X86_64]


def test_kexec_file_load_arguments(answer: Answer) -> None:
    seen = answer(0)
    libc.kexec_file_load(5, -1, b"quiet", KexecFileFlag.KEXEC_FILE_NO_INITRAMFS)
    libc.kexec_file_load(-1, -1, b"", KexecFileFlag.KEXEC_FILE_UNLOAD)
    assert values(seen[0]) == [320, 5, -1, 6, b"quiet", 4]
    assert values(seen[1]) == [320, -1, -1, 0, None, 1]


def test_reboot_arguments(answer: Answer) -> None:
    seen = answer(0)
    libc.reboot_kexec()
    assert values(seen[0]) == [169, 0xFEE1DEAD, 672274793, 0x45584543, None]


def test_module_arguments(answer: Answer) -> None:
    seen = answer(0)
    libc.finit_module(5, "size=65536")
    libc.init_module(b"\x7fELF\0rest", "size=1")
    libc.delete_module("pykexec_region")
    libc.finit_module(6, "size=1", 4)
    assert values(seen[3]) == [313, 6, b"size=1", 4]
    assert values(seen[0]) == [313, 5, b"size=65536", 0]
    assert values(seen[1])[0] == 175
    assert values(seen[1])[2:] == [9, b"size=1"]
    assert values(seen[2]) == [176, b"pykexec_region", os.O_NONBLOCK]


def test_the_parameters_of_a_module_are_in_no_message(answer: Answer) -> None:
    answer(errno.EBUSY)
    with pytest.raises(SyscallError) as caught:
        libc.finit_module(5, "region=18446744071600000000")
    assert str(caught.value) == "finit_module(fd=5, flags=0x0) = -1 EBUSY (Device or resource busy)"


FAILURES: list[tuple[str, Callable[[], None], int, str, int]] = [
    (
        "no privilege",
        lambda: libc.kexec_load(0x1000, [(0, 0, 0x1000, 0x1000)] * 5, FLAGS),
        errno.EPERM,
        "kexec_load(entry=0x1000, nr_segments=5, segments, "
        "flags=KEXEC_ON_CRASH|KEXEC_ARCH_X86_64) = -1 EPERM (Operation not permitted)",
        4,
    ),
    (
        "unload while another load runs",
        lambda: libc.kexec_load(0, [], 0),
        errno.EBUSY,
        "kexec_load(entry=0x0, nr_segments=0, NULL, flags=0) = -1 EBUSY (Device or resource busy)",
        1,
    ),
    (
        "an image that the loader does not know",
        lambda: libc.kexec_file_load(5, 6, b"a", KexecFileFlag.KEXEC_FILE_ON_CRASH),
        errno.ENOEXEC,
        "kexec_file_load(kernel_fd=5, initrd_fd=6, cmdline_len=2, flags=KEXEC_FILE_ON_CRASH) "
        "= -1 ENOEXEC (Exec format error)",
        5,
    ),
    (
        "a signature",
        lambda: libc.kexec_file_load(5, 6, b"", 0),
        errno.EKEYREJECTED,
        "kexec_file_load(kernel_fd=5, initrd_fd=6, cmdline_len=1, flags=0) = -1 EKEYREJECTED "
        "(Key was rejected by service)",
        4,
    ),
    (
        "nothing is loaded",
        libc.reboot_kexec,
        errno.EINVAL,
        "reboot(LINUX_REBOOT_CMD_KEXEC) = -1 EINVAL (Invalid argument)",
        1,
    ),
    (
        "a kernel without kexec",
        lambda: libc.kexec_load(0, [], 0),
        errno.ENOSYS,
        "kexec_load(entry=0x0, nr_segments=0, NULL, flags=0) = -1 ENOSYS "
        "(Function not implemented)",
        5,
    ),
]


@pytest.mark.parametrize(
    ("call", "number", "message", "status"), [row[1:] for row in FAILURES],
    ids=[row[0] for row in FAILURES],
)  # fmt: skip
def test_failure(
    answer: Answer, call: Callable[[], None], number: int, message: str, status: int
) -> None:
    answer(number)
    with pytest.raises(SyscallError) as caught:
        call()
    assert str(caught.value) == message
    assert caught.value.errno == number
    assert caught.value.code == errno.errorcode[number]
    assert caught.value.syscall == message.partition("(")[0]
    assert caught.value.exit_status == status
    assert caught.value.hint == (
        f"see pykexec explain {errno.errorcode[number]} for the checks of the kernel"
    )


def test_unknown_errno_has_its_number() -> None:
    assert str(SyscallError("x()", 4095)) == "x() = -1 4095 (Unknown error 4095)"
    assert exit_status_of(4095) == 1


def test_other_architectures_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: uname("riscv64"))
    with pytest.raises(
        NotSupported, match="the kexec system calls of riscv64 are unknown to pykexec"
    ):
        libc.numbers()


def test_mount_failure(tmp_path: Path) -> None:
    with pytest.raises(SyscallError) as caught:
        libc.mount("none", str(tmp_path / "missing"), "no-such-fs", 0, "")
    assert caught.value.errno in (errno.ENOENT, errno.EPERM, errno.ENODEV)
    call = f'mount("none", "{tmp_path}/missing", "no-such-fs", 0x0, "")'
    assert str(caught.value).startswith(f"{call} = -1 E")


def test_umount_failure(tmp_path: Path) -> None:
    with pytest.raises(SyscallError) as caught:
        libc.umount(str(tmp_path), MNT_DETACH)
    assert caught.value.errno in (errno.EINVAL, errno.EPERM)


def test_fallocate_takes_and_gives_back(tmp_path: Path) -> None:
    with open(tmp_path / "file", "wb") as file:
        libc.fallocate(file.fileno(), 0, 0, 1 << 20)
        assert os.fstat(file.fileno()).st_size == 1 << 20
        mode = libc.FALLOC_FL_PUNCH_HOLE | libc.FALLOC_FL_KEEP_SIZE
        libc.fallocate(file.fileno(), mode, 0, 1 << 19)
        assert os.fstat(file.fileno()).st_size == 1 << 20
    with pytest.raises(SyscallError, match=r"fallocate\(-1, 0x0, 0x0, 0x1000\) = -1 EBADF"):
        libc.fallocate(-1, 0, 0, 4096)


def test_address_is_that_of_the_mapping() -> None:
    with mmap.mmap(-1, 4096) as memory:
        memory[:4] = b"here"
        assert ctypes.string_at(libc.address_of(memory), 4) == b"here"
