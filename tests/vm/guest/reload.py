"""In the guest: a load that replaces the armed image, with a panic directly before or after the
kernel gets the new one.

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
    """Everything is staged; panics instead of making the system call."""

    def kexec_load(self, entry: int, segments: Segments, flags: int) -> None:
        self.panic()


class After(ThisKernel):
    """Panics directly after the system call, the last step."""

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
