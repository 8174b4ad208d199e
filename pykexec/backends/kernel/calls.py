"""Every call with which the real backend and its callers make the kernel act, as one value that is
passed to a backend. Only an entry point names the one of this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from errno import EINVAL
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pykexec import libc
from pykexec.errors import NotSupported
from pykexec.frozen import dataclass
from pykexec.host.module import COMPRESSED_FILE, MODULE_MAX, kernel_unpacks
from pykexec.host.root import THIS_MACHINE
from pykexec.images.compression import file_codec, unpacked
from pykexec.remedies import Unload, and_also
from pykexec.syscalls import SyscallError

if TYPE_CHECKING:
    from pykexec.images.contents import OpenFile

CRASH_SIZE = (Path("/sys/kernel/kexec/crash_size"), Path("/sys/kernel/kexec_crash_size"))
"""The first one since 6.18."""
SYSRQ_TRIGGER = Path("/proc/sysrq-trigger")


class KernelCalls(Protocol):
    """Errors are SyscallErrors. There is no call for the network, which is never touched."""

    @property
    def shutdown_folders(self) -> tuple[Path, ...]:
        """The directories to search for shutdown(8), in order."""
        ...

    def kexec_load(
        self, entry: int, segments: Sequence[tuple[int, int, int, int]], flags: int
    ) -> None:
        """kexec_load(2), as in `libc.kexec_load`."""
        ...

    def kexec_file_load(self, kernel_fd: int, initrd_fd: int, cmdline: bytes, flags: int) -> None:
        """kexec_file_load(2), as in `libc.kexec_file_load`."""
        ...

    def reboot_kexec(self) -> None:
        """Start the normal image immediately."""
        ...

    def panic(self) -> None:
        """Make the kernel panic. Raises NotSupported if the kernel does not offer a way."""
        ...

    def insert_module(self, file: OpenFile, parameters: str) -> None:
        """Insert a kernel module, compressed or not. Also raises MissingCodec, BadCompression."""
        ...

    def remove_module(self, name: str) -> None:
        """delete_module(2)."""
        ...

    def set_crash_size(self, size: int) -> None:
        """Shrink the crash region to `size` bytes. Raises NotSupported with the kernel's
        message."""
        ...

    def sync(self) -> None:
        """sync(2)."""
        ...

    def execute(self, program: Path, words: Sequence[str]) -> None:
        """execv(3): the program takes this process's place."""
        ...


@dataclass(frozen=True, slots=True)
class ThisKernel:
    """The kernel that runs."""

    shutdown_folders: tuple[Path, ...] = (Path("/sbin"), Path("/etc"), Path("/bin"))
    """kexec-tools' own."""

    def kexec_load(
        self, entry: int, segments: Sequence[tuple[int, int, int, int]], flags: int
    ) -> None:
        libc.kexec_load(entry, segments, flags)

    def kexec_file_load(self, kernel_fd: int, initrd_fd: int, cmdline: bytes, flags: int) -> None:
        libc.kexec_file_load(kernel_fd, initrd_fd, cmdline, flags)

    def reboot_kexec(self) -> None:
        libc.reboot_kexec()

    def panic(self) -> None:
        try:
            SYSRQ_TRIGGER.write_text("c")
        except OSError as error:
            raise NotSupported(
                f"{SYSRQ_TRIGGER}: {(error.strerror or str(error)).lower()}",
                hint="the kernel needs CONFIG_MAGIC_SYSRQ=y",
            ) from error

    def insert_module(self, file: OpenFile, parameters: str) -> None:
        codec = file_codec(file)
        if codec is None:
            libc.finit_module(file.fd, parameters)
            return
        if kernel_unpacks(THIS_MACHINE, codec.name):
            try:
                libc.finit_module(file.fd, parameters, COMPRESSED_FILE)
            except SyscallError as error:
                # Its xz has no CRC64 (lib/xz), which is the default of xz(1).
                if error.errno != EINVAL:
                    raise
            else:
                return
        image = b"".join(unpacked(str(file.path), file.span(0, file.size), codec, MODULE_MAX))
        libc.init_module(image, parameters)

    def remove_module(self, name: str) -> None:
        libc.delete_module(name)

    def set_crash_size(self, size: int) -> None:
        path = next(filter(Path.exists, CRASH_SIZE), CRASH_SIZE[-1])
        try:
            path.write_text(str(size))
        except OSError as error:
            raise NotSupported(
                f"{path}: {(error.strerror or str(error)).lower()}",
                hint=and_also("unload the crash image first, as root", Unload(crash=True)),
            ) from error

    def sync(self) -> None:
        os.sync()

    def execute(self, program: Path, words: Sequence[str]) -> None:
        os.execv(program, list(words))
