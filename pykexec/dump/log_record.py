"""One record of the kernel's log. Text is bytes, as the kernel wrote it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Record:
    """One printk. `nanoseconds` is None for a line of the plain buffer, which has the time in its
    text; `facility` and `level` are None if a ring does not record them."""

    __slots__ = ("caller", "facility", "level", "nanoseconds", "sequence", "text")

    def __init__(
        self,
        text: bytes,
        nanoseconds: int | None = None,
        sequence: int | None = None,
        facility: int | None = None,
        level: int | None = None,
        caller: int | None = None,
    ) -> None:
        self.text, self.nanoseconds, self.sequence = text, nanoseconds, sequence
        self.facility, self.level, self.caller = facility, level, caller

    @property
    def stamp(self) -> bytes:
        """`[    1.234567] `, as on the kernel's console (printk.c: print_time)."""
        if self.nanoseconds is None:
            return b""
        microseconds = self.nanoseconds // 1000
        return b"[%5d.%06d] " % (microseconds // 1_000_000, microseconds % 1_000_000)

    def lines(self) -> Iterator[bytes]:
        """Each line with the time before it, as dmesg and the kernel's console print it."""
        stamp = self.stamp
        for line in self.text.split(b"\n"):
            yield stamp + line
