"""A failed system call, printed as strace would print it."""

from __future__ import annotations

import os
from collections.abc import Sequence
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
from typing import TYPE_CHECKING

from pykexec.errors import KexecError, NotPermitted, NotSupported

if TYPE_CHECKING:
    from pykexec.remedies import Advice

NOT_PERMITTED = frozenset(
    {EPERM, EACCES, EKEYREJECTED, EKEYEXPIRED, EKEYREVOKED, ENOKEY, ENOPKG, EBADMSG, ENODATA}
)
"""The errors for privilege, lockdown and signature checks (kernel/module_signing.c)."""
NOT_SUPPORTED = frozenset({ENOSYS, ENOEXEC, ENOTSUP})


class SyscallError(KexecError):
    """`call` is the text before "= -1", e.g. "kexec_load(entry=0x1000, ...)"; `why` is a reason
    that the simulated kernel adds. Facts: `syscall` (its name), `errno` (a number), and `rule`, the
    check that failed, or None if the kernel did not report it. `code` is the errno's name.
    """

    syscall: str
    errno: int
    rule: str | None

    def __init__(
        self,
        call: str,
        errno: int,
        why: str = "",
        *,
        exit_status: int | None = None,
        hint: Advice | None = None,
        rule: str | None = None,
        details: Sequence[str] = (),
        **facts: object,
    ) -> None:
        name = errorcode.get(errno, str(errno))
        refusal = f"{call} = -1 {name} ({os.strerror(errno)})"
        syscall = call.partition("(")[0]
        super().__init__(
            f"{refusal}: {why}" if why else refusal,
            hint=hint,
            details=details,
            syscall=syscall,
            errno=errno,
            rule=rule,
            **facts,
        )
        self.code = name
        self.exit_status = exit_status_of(errno) if exit_status is None else exit_status


def exit_status_of(errno: int) -> int:
    """The exit status of the program for this errno."""
    if errno in NOT_PERMITTED:
        return NotPermitted.exit_status
    if errno in NOT_SUPPORTED:
        return NotSupported.exit_status
    return KexecError.exit_status
