"""Every call by which the real backend, and who calls it, lets the kernel act: one value that
a backend is made with. Only an entry point names the one of this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pykexec import libc
from pykexec.errors import NotSupported

SYSRQ_TRIGGER = Path("/proc/sysrq-trigger")


class KernelCalls(Protocol):
    """A refusal is a SyscallError. There is none for the network: it is never touched."""

    @property
    def shutdown_folders(self) -> tuple[Path, ...]:
        """Where shutdown(8) is looked for, in this order."""
        ...

    def kexec_load(
        self, entry: int, segments: Sequence[tuple[int, int, int, int]], flags: int
    ) -> None:
        """kexec_load(2), as `libc.kexec_load` has it."""
        ...

    def kexec_file_load(self, kernel_fd: int, initrd_fd: int, cmdline: bytes, flags: int) -> None:
        """kexec_file_load(2), as `libc.kexec_file_load` has it."""
        ...

    def reboot_kexec(self) -> None:
        """The normal image runs, at once."""
        ...

    def panic(self) -> None:
        """The kernel is made to panic. Raises NotSupported where it has no way to ask for it."""
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

    def sync(self) -> None:
        os.sync()

    def execute(self, program: Path, words: Sequence[str]) -> None:
        os.execv(program, list(words))
