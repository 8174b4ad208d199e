"""In the guest: a load over the image that is armed, and a panic right before the kernel is given
the new one, or right after.

python3 -m guest.reload before|after
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from pykexec.backends.kernel.backend import KernelBackend
from pykexec.backends.kernel.calls import ThisKernel
from pykexec.flows.load import load
from pykexec.images.contents import joined_initrd
from pykexec.placement.request import ImageKind, LoadRequest, Mode

Segments = Sequence[tuple[int, int, int, int]]


class Before(ThisKernel):
    """All is staged, and the system call does not come."""

    def kexec_load(self, entry: int, segments: Segments, flags: int) -> None:
        self.panic()


class After(ThisKernel):
    """The system call was all that was missing."""

    def kexec_load(self, entry: int, segments: Segments, flags: int) -> None:
        super().kexec_load(entry, segments, flags)
        self.panic()


def main(moment: str) -> None:
    wanted = LoadRequest(
        kind=ImageKind.CRASH_BY_NORMAL,
        mode=Mode.STUB_SWAP,
        replaces=True,
        initrd=joined_initrd([Path("/boot/initrd2")]),
        append=("console=ttyS0", "panic=1", "quiet", "image=new"),
    )
    load("/boot/vmlinuz", KernelBackend(Before() if moment == "before" else After()), wanted)


if __name__ == "__main__":
    main(sys.argv[1])
