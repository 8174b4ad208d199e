"""Puts the bytes of segments where kexec_load(2) can read them: in memory that nobody else can
change, so that the kernel gets the bytes that were digested."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from pykexec import libc
from pykexec.images.contents import Contents, FileSpan, copied
from pykexec.images.digest_ahead import CopyAhead, DigestAhead

if TYPE_CHECKING:
    from pykexec.placement.segment import SegmentTable


@contextmanager
def syscall_segments(table: SegmentTable) -> Iterator[list[tuple[int, int, int, int]]]:
    """(address, bufsz, mem, memsz) of each segment; valid only inside the block."""
    with ExitStack() as stack:
        yield [
            (
                stack.enter_context(in_memory(item.buf)) if item.buf else 0,
                item.bufsz,
                item.mem,
                item.memsz,
            )
            for item in table.segments
        ]


@contextmanager
def in_memory(contents: Contents) -> Iterator[int]:
    """The address of these bytes in this process: a copy, because the pages of a private mapping
    follow the file until they are written (mmap(2), MAP_PRIVATE). Raises UnreadableFile,
    FileChanged."""
    if isinstance(contents, CopyAhead):
        _ = contents.sha256  # available when the copy is
        yield libc.address_of(contents.memory)
        return
    with mmap.mmap(-1, max(1, contents.size)) as memory:
        done = 0
        for chunk in copied(contents):
            memory[done : done + len(chunk)] = chunk
            done += len(chunk)
        yield libc.address_of(memory)


def _at_rest(contents: Contents) -> Contents:
    """The contents under a digest ahead of time: a single file need not be copied."""
    return contents.contents if isinstance(contents, DigestAhead) else contents


@contextmanager
def initrd_fd(contents: Contents | None) -> Iterator[int]:
    """A file descriptor with these bytes from its start; -1 for none. A single file is passed as it
    is, several as a memfd."""
    if contents is None:
        yield -1
        return
    contents = _at_rest(contents)
    if isinstance(contents, FileSpan) and not contents.offset:
        yield contents.file.fd
        return
    fd = os.memfd_create("pykexec-initrd", os.MFD_CLOEXEC)
    try:
        for chunk in contents.chunks():
            os.write(fd, chunk)
        os.lseek(fd, 0, os.SEEK_SET)
        yield fd
    finally:
        os.close(fd)
