"""The kernel's log in a dump, in any of the kernel's log formats: records, and the lines that
`dmesg` and kexec-tools' vmcore-dmesg print for them. Text is bytes, as the kernel wrote it."""

from __future__ import annotations

from pykexec.dump.faults import UnknownKernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pykexec.dump.log_record import Record
    from pykexec.dump.reader import Dump


def records(dump: Dump) -> Iterator[Record]:
    """Yield the records, the oldest first. Raises UnknownKernel, DamagedDump, NotInDump, also
    between two records."""
    info = dump.info
    if info.has("SYMBOL(prb)"):
        from pykexec.dump.log_ring import ring_records

        return ring_records(dump.kernel, info)
    from pykexec.dump import log_records

    if info.has("SYMBOL(log_first_idx)"):
        return log_records.records(dump.kernel, info)
    if info.has("SYMBOL(log_end)"):
        return log_records.plain_lines(dump.kernel, info)
    raise UnknownKernel("VMCOREINFO names none of the kernel's three kinds of log buffer")
