"""KernelCalls that do not reach a kernel: they are recorded, with the bytes of each segment."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pykexec.abi.kexec import KEXEC_ARCH_MASK, KexecFileFlag, KexecFlag
from pykexec.images.contents import OpenFile
from pykexec.syscalls import SyscallError


@dataclass(frozen=True)
class Loaded:
    """One kexec_load(2), with the bytes of each segment."""

    entry: int
    flags: KexecFlag
    segments: tuple[tuple[int, int, bytes], ...]
    """(mem, memsz, bytes)."""

    @property
    def params(self) -> bytes:
        """The segment with the zero page."""
        return next(data for _, _, data in self.segments if data[0x202:0x206] == b"HdrS")

    @property
    def cmdline(self) -> str:
        return self.params[4096:].split(b"\0")[0].decode()


@dataclass
class Calls:
    """The calls made, and the results to return: an errno by the call's name."""

    shutdown_folders: tuple[Path, ...] = ()

    loads: list[Loaded] = field(default_factory=list)
    files: list[tuple[str, KexecFileFlag, int]] = field(default_factory=list)
    """(command line, flags, bytes of the initrd) of kexec_file_load."""
    lines: list[bytes] = field(default_factory=list)
    """Command lines of kexec_file_load, as bytes."""
    unloads: list[KexecFlag] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    """The other calls, in order."""
    errors: dict[str, int] = field(default_factory=dict)

    def kexec_load(
        self, entry: int, segments: Sequence[tuple[int, int, int, int]], flags: int
    ) -> None:
        low = KexecFlag(flags & ~KEXEC_ARCH_MASK)
        if error := self.errors.get("kexec_load"):
            raise SyscallError("kexec_load(...)", error)
        if not segments:
            self.unloads.append(low)
            return
        copied = tuple(
            (mem, memsz, ctypes.string_at(buf, bufsz) if buf else b"")
            for buf, bufsz, mem, memsz in segments
        )
        self.loads.append(Loaded(entry, low, copied))

    def kexec_file_load(self, kernel_fd: int, initrd_fd: int, cmdline: bytes, flags: int) -> None:
        if error := self.errors.get("kexec_file_load"):
            raise SyscallError("kexec_file_load(...)", error)
        size = os.fstat(initrd_fd).st_size if initrd_fd >= 0 else 0
        self.lines.append(cmdline)
        self.files.append((cmdline.decode(errors="replace"), KexecFileFlag(flags), size))

    def reboot_kexec(self) -> None:
        self.others.append("reboot")

    def panic(self) -> None:
        self.others.append("panic")

    def insert_module(self, file: OpenFile, parameters: str) -> None:
        if error := self.errors.get("insert_module"):
            raise SyscallError("finit_module(fd=3, flags=0x0)", error)
        self.others.append(f"insert {file.path.name} {parameters}")

    def remove_module(self, name: str) -> None:
        self.others.append(f"remove {name}")

    def set_crash_size(self, size: int) -> None:
        self.others.append(f"crash size {size}")

    def sync(self) -> None:
        self.others.append("sync")

    def execute(self, program: Path, words: Sequence[str]) -> None:
        self.others.append(" ".join((str(program), *words)))

    @property
    def nothing(self) -> bool:
        return not (self.loads or self.files or self.unloads or self.others)
