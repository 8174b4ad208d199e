"""The free memory of one plan, from which one thing after the other is taken."""

from __future__ import annotations

from pykexec.abi.kexec import PAGE_SIZE
from pykexec.errors import KexecError
from pykexec.memory.hole import NoHole, locate_hole
from pykexec.memory.ranges import PhysRange, RangeSet, align_up


class DoesNotFitInWindow(NoHole):
    """locate_hole's refusal, with the name of the thing in front."""

    def __init__(self, name: str, cause: NoHole, size: int, align: int) -> None:
        super().__init__(size, align, cause.window, cause.refused)
        self.message = f"{name}: {self.message}"
        KexecError.__init__(self, self.message, hint=self.hint, **self.facts)


class Space:
    """What is still free; shrinks with every `take`."""

    def __init__(self, free: RangeSet) -> None:
        self.free = free

    def take(
        self,
        name: str,
        size: int,
        *,
        align: int = PAGE_SIZE,
        lowest: int = 0,
        below: int = 1 << 64,
        from_top: bool = True,
    ) -> PhysRange:
        """`size` bytes in whole pages between `lowest` and `below`."""
        whole = align_up(size, PAGE_SIZE)
        try:
            found = locate_hole(
                self.free, whole, align=align, window=PhysRange(lowest, below), from_top=from_top
            )
        except NoHole as error:
            raise DoesNotFitInWindow(name, error, whole, align) from None
        self.free = self.free.without(found)
        return found
