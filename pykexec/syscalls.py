"""A system call that failed, printed as strace would print it."""

from __future__ import annotations

import os
from errno import (
    EACCES,
    EBADMSG,
    EKEYEXPIRED,
    EKEYREJECTED,
    EKEYREVOKED,
    ENODATA,
    ENOEXEC,
    ENOKEY,
    ENOPKG,
    ENOSYS,
    ENOTSUP,
    EPERM,
    errorcode,
)

from pykexec.errors import KexecError, NotPermitted, NotSupported

NOT_PERMITTED = frozenset(
    {EPERM, EACCES, EKEYREJECTED, EKEYEXPIRED, EKEYREVOKED, ENOKEY, ENOPKG, EBADMSG, ENODATA}
)
"""Privilege, lockdown, and what a signature check answers (kernel/module_signing.c)."""
NOT_SUPPORTED = frozenset({ENOSYS, ENOEXEC, ENOTSUP})


class SyscallError(KexecError):
    """`syscall` and `errno` are facts; the exit status follows from the errno.

    `arguments` is the text between the brackets, e.g. "entry=0x1000, nr_segments=1, ...".
    """

    code = "syscall"
    syscall: str
    errno: int

    def __init__(
        self, syscall: str, arguments: str, errno: int, *, hint: str | None = None, **facts: object
    ) -> None:
        name = errorcode.get(errno, str(errno))
        super().__init__(
            f"{syscall}({arguments}) = -1 {name} ({os.strerror(errno)})",
            hint=hint,
            syscall=syscall,
            errno=errno,
            **facts,
        )
        self.syscall = syscall
        self.errno = errno
        self.exit_status = exit_status_of(errno)


def exit_status_of(errno: int) -> int:
    """What the shell sees when the kernel answers this."""
    if errno in NOT_PERMITTED:
        return NotPermitted.exit_status
    if errno in NOT_SUPPORTED:
        return NotSupported.exit_status
    return KexecError.exit_status
