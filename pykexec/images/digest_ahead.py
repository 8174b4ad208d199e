"""Starts the digest of a large file before it is needed: with a second core it costs no time."""

from __future__ import annotations

import hashlib
import mmap
import sys
import threading
from collections.abc import Iterator

from pykexec.errors import KexecError
from pykexec.images.contents import Contents, UnreadableFile

WORTHWHILE = 16 << 20
"""Bytes; fewer are digested in the time that a thread takes to start."""

SWITCH_INTERVAL = 0.0002
"""Seconds that the thread waits at most for the interpreter, which it needs briefly between two
chunks; the default of 5 ms is longer than a chunk takes."""


class DigestAhead:
    """The same contents; a separate thread reads them once for their digest.

    An error does not wait for it: the thread checks whether the main thread is still alive. It is
    not a daemon thread, because the interpreter ends those with pthread_exit, which aborts the
    process if libgcc_s.so.1 is missing, as in an initramfs.
    """

    def __init__(self, contents: Contents) -> None:
        self.contents = contents
        self.fault: KexecError | None = None
        sys.setswitchinterval(min(SWITCH_INTERVAL, sys.getswitchinterval()))
        self.thread = threading.Thread(target=self.work)
        self.thread.start()

    def work(self) -> None:
        running = hashlib.sha256()
        try:
            for chunk in self.contents.chunks():
                if not threading.main_thread().is_alive():
                    return
                running.update(self.keep(chunk))
            self.found = running.digest()
        except KexecError as fault:
            self.fault = fault

    def keep(self, chunk: bytes | memoryview) -> bytes | memoryview:
        """The form of a chunk to digest."""
        return chunk

    @property
    def name(self) -> str:
        return self.contents.name

    @property
    def size(self) -> int:
        return self.contents.size

    def chunks(self) -> Iterator[bytes | memoryview]:
        return self.contents.chunks()

    def first_sha256(self, now: bytes) -> bytes:
        """The thread's digest; it may have read earlier or later, and both must have read the
        same."""
        return self.sha256

    @property
    def sha256(self) -> bytes:
        """Raises what reading raised."""
        self.thread.join()
        if self.fault:
            raise self.fault
        return self.found


class CopyAhead(DigestAhead):
    """Also makes a copy of the contents in the same pass: nobody else can change it, so the kernel
    gets the bytes that were digested. Raises UnreadableFile if they do not fit into memory."""

    def __init__(self, contents: Contents) -> None:
        try:
            self.memory = mmap.mmap(-1, contents.size)
        except OSError as error:
            raise UnreadableFile(
                f"{contents.name}: {contents.size:#x} bytes do not fit into memory",
                hint="use a smaller file: a sparse file can claim any size",
            ) from error
        self.done = 0
        super().__init__(contents)

    def keep(self, chunk: bytes | memoryview) -> memoryview:
        end = self.done + len(chunk)
        self.memory[self.done : end] = chunk
        kept = memoryview(self.memory)[self.done : end]
        self.done = end
        return kept


def digest_ahead(contents: Contents | None, copy: bool = False) -> Contents | None:
    """Start a digest if worthwhile; with a copy, for a load by kexec_load(2)."""
    if contents is None or contents.size < WORTHWHILE:
        return contents
    return CopyAhead(contents) if copy else DigestAhead(contents)
