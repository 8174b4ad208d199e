"""A kexec_load(2) that was refused: the call as strace would show it, and its exit status."""

from __future__ import annotations

from pykexec.abi.kexec import flag_names
from pykexec.errors import DoesNotFit, NotSupported
from pykexec.placement.segment import SegmentTable
from pykexec.syscalls import SyscallError as SyscallError

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
