"""Which unwinder the stacks of a dump need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.dump.architecture import ARM64

if TYPE_CHECKING:
    from pykexec.dump.linux import Linux
    from pykexec.dump.stacks import Unwinder


def unwinder_of(linux: Linux) -> Unwinder:
    """Unwinds the stacks of the kernel in a dump. Raises what reading its symbols raises."""
    if linux.dump.architecture == ARM64:
        from pykexec.dump.arm64.stacks import FrameUnwinder

        return FrameUnwinder(linux)
    from pykexec.dump.x86.stacks import OrcUnwinder

    return OrcUnwinder(linux)
