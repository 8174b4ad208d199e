"""Memory of the running kernel by virtual or physical address, through /proc/kcore.

On a stock kernel only /proc/kcore offers this: /dev/mem does not show System RAM. Pages that the
kernel must not touch (offline, ballooned or poisoned) read as zeros without an error, so readers
must check what they get (fs/proc/kcore.c:read_kcore_iter).
"""

from __future__ import annotations

import errno
import os
from types import TracebackType

from pykexec.errors import KexecError, NotPermitted, NotSupported
from pykexec.host.kernel_map import KCORE, kcore_loads
from pykexec.host.root import THIS_MACHINE, Folder, text
from pykexec.machine import Unknown


class KcoreRefused(NotPermitted):
    """The kernel does not allow this process to read it."""

    code = "kcore-refused"


class NoKcore(NotSupported):
    """There is no /proc/kcore, or its format is not supported."""

    code = "no-kcore"


class NotInKcore(KexecError):
    """No program header has this address."""

    code = "not-in-kcore"
    usual_hint = "the kernel may hide pages (balloon, virtio-mem), or memory was unplugged"


class Kcore:
    """Open /proc/kcore; a context manager. Headers are read once: reopen it after memory was added
    or removed."""

    def __init__(self, root: Folder = THIS_MACHINE) -> None:
        try:
            self.fd = root.open(KCORE)
        except OSError as error:
            raise refusal(root, error) from error
        loads = kcore_loads(root)
        if isinstance(loads, Unknown):
            self.close()
            raise NoKcore(
                loads.why, hint="run as root on a 64-bit kernel, whose /proc/kcore is needed"
            )
        self.loads = loads
        self.direct = tuple(load for load in self.loads if load.in_direct_map)
        if len({load.paddr for load in self.direct}) < len(self.direct):
            self.close()
            raise NoKcore(
                f"{KCORE}: two program headers have the same physical address",
                hint="use Linux 4.11 or later, whose physical addresses are reliable",
            )

    def pread(self, size: int, offset: int) -> bytes:
        """Exactly `size` bytes of the file."""
        parts: list[bytes] = []
        left = size
        while left:
            try:
                chunk = os.pread(self.fd, left, offset + size - left)
            except OSError as error:
                raise NotInKcore(f"{KCORE}: cannot be read: {error.strerror}".lower()) from error
            if not chunk:
                raise NotInKcore(f"{KCORE}: ends at {offset + size - left:#x}")
            parts.append(chunk)
            left -= len(chunk)
        return b"".join(parts)

    def virtual(self, addr: int, size: int) -> bytes:
        """`size` bytes at a kernel address, within one mapping. Raises NotInKcore."""
        for load in self.loads:
            if load.holds(addr, size):
                return self.pread(size, load.offset + addr - load.vaddr)
        raise NotInKcore(f"{KCORE}: does not have {size:#x} bytes at virtual {addr:#x}", addr=addr)

    def physical(self, addr: int, size: int) -> bytes:
        """`size` bytes of RAM at a physical address. Raises NotInKcore."""
        for load in self.direct:
            start = load.paddr or 0
            if start <= addr and addr + size <= start + load.size:
                return self.pread(size, load.offset + addr - start)
        raise NotInKcore(f"{KCORE}: does not have {size:#x} bytes at physical {addr:#x}", addr=addr)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Kcore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def refusal(root: Folder, error: OSError) -> KexecError:
    """Why it cannot be opened (fs/proc/kcore.c:open_kcore), and what would help."""
    if error.errno == errno.ENOENT:
        return NoKcore(f"{KCORE}: does not exist", hint="the kernel needs CONFIG_PROC_KCORE=y")
    lockdown = text(root, "/sys/kernel/security/lockdown")
    if error.errno == errno.EPERM and isinstance(lockdown, str) and "[confidentiality]" in lockdown:
        return KcoreRefused(
            f"{KCORE}: not permitted: the kernel is locked down (confidentiality)",
            hint="boot with lockdown=integrity or none",
            lockdown="confidentiality",
        )
    if error.errno in (errno.EPERM, errno.EACCES):
        return KcoreRefused(
            f"{KCORE}: {(error.strerror or 'not permitted').lower()}",
            hint="run as root (CAP_SYS_RAWIO is needed; containers drop it)",
        )
    return NoKcore(f"{KCORE}: {(error.strerror or str(error)).lower()}")
