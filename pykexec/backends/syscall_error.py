"""A system call that the kernel refused, printed as strace would show it."""

from __future__ import annotations

import os
from errno import EACCES, EPERM, errorcode

from pykexec.abi.kexec import flag_names
from pykexec.errors import DoesNotFit, KexecError, NotPermitted, NotSupported
from pykexec.placement.segment import SegmentTable

NOT_PERMITTED = frozenset((EPERM, EACCES))


class SyscallError(KexecError):
    """`errno` is the number, `code` its name; `rule` the check of kernel-contract 1.2
    that refused (e.g. "F2"), or None where a real kernel did not say."""

    errno: int

    def __init__(
        self,
        call: str,
        errno: int,
        why: str = "",
        *,
        exit_status: int | None = None,
        hint: str | None = None,
        rule: str | None = None,
        **facts: object,
    ) -> None:
        name = errorcode.get(errno, str(errno))
        refusal = f"{call} = -1 {name} ({os.strerror(errno)})"
        super().__init__(
            f"{refusal}: {why}" if why else refusal, hint=hint, errno=errno, rule=rule, **facts
        )
        self.code = name
        if exit_status is None and errno in NOT_PERMITTED:
            exit_status = NotPermitted.exit_status
        if exit_status is not None:
            self.exit_status = exit_status


FITS_NOT = DoesNotFit.exit_status
KNOWS_NOT = NotSupported.exit_status


def flags_text(flags: int) -> str:
    """The flags as strace shows them: names joined by |, what has no name as hex."""
    return "|".join(flag_names(flags)) or "0"


def kexec_load_text(table: SegmentTable) -> str:
    """kexec_load(2) as strace would show this call; the segment array is not a pointer here."""
    segments = "segments" if table.segments else "NULL"
    return (
        f"kexec_load(entry={table.entry:#x}, nr_segments={len(table.segments)}, "
        f"{segments}, flags={flags_text(table.flags)})"
    )
