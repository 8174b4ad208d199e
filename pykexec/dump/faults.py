"""What can be wrong with a dump."""

from __future__ import annotations

from pykexec.errors import KexecError

COPY_AGAIN = "the file is damaged or incomplete: copy it again"


class NotADump(KexecError):
    """Not a dump of a supported architecture and format."""

    code = "not-a-dump"
    usual_hint = "a dump is a copy of /proc/vmcore, or what makedumpfile or QEMU wrote of one"


class UnreadableDump(KexecError):
    """A dump that cannot be opened or read, or that changes while it is read."""

    code = "unreadable-dump"
    usual_hint = "check its permissions, and make sure that nothing writes to it"


class DamagedDump(KexecError):
    """A header, table or list of the dump contradicts itself or the rest."""

    code = "damaged-dump"
    usual_hint = COPY_AGAIN


class NotInDump(KexecError):
    """Memory that the dump does not hold: filtered, cut off, or not mapped by the kernel."""

    code = "not-in-dump"
    usual_hint = "makedumpfile may have filtered it: a lower dump level keeps more"


class UnknownKernel(KexecError):
    """VMCOREINFO, symbols or types do not have what was asked for."""

    code = "unknown-kernel"
    usual_hint = "the kernel that crashed does not export it"


class OutOfTime(KexecError):
    """Reading on would exceed the limit of reads or time."""

    code = "out-of-time"
    usual_hint = "its lists are damaged, or the machine is very large"
