"""Whether a slot of the kernel still has the image that pykexec put there: the kernel says only
that one is loaded, and another program may have loaded over it."""

from __future__ import annotations

from pykexec.backends.backend import Slot
from pykexec.backends.kernel.kimage import (
    KIMAGE_READ,
    KimageMismatch,
    find_segments,
    kimage_address,
)
from pykexec.backends.kernel.record import LoadRecord, unloading
from pykexec.backends.kernel.staged import StageChanged
from pykexec.errors import NotPermitted, NotSupported
from pykexec.host.kcore import Kcore, NotInKcore
from pykexec.host.root import THIS_MACHINE, Folder
from pykexec.host.running_kernel import addresses

IMAGE_POINTERS = {Slot.NORMAL: "kexec_image", Slot.CRASH: "kexec_crash_image"}
"""kernel/kexec_core.c: the two `struct kimage *`."""


def check_image(record: LoadRecord, root: Folder = THIS_MACHINE) -> None:
    """Raises StageChanged if the segments in the slot are not those passed to kexec_load(2). Passes
    if the kernel does not allow looking (kptr_restrict, lockdown)."""
    name = IMAGE_POINTERS[record.slot]
    try:
        pointer = addresses((name,), root)[name]
        with Kcore(root) as kcore:
            if addr := kimage_address(kcore, pointer):
                find_segments(kcore.virtual(addr, KIMAGE_READ), record.segments, record.entry)
    except KimageMismatch as error:
        raise StageChanged(
            f"the {record.slot} image is not the one that pykexec loaded: another program "
            "has replaced it",
            hint=unloading(record.slot, ", and load again"),
        ) from error
    except (NotPermitted, NotSupported, NotInKcore):
        return
