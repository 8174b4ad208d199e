"""What each verb of kexec(8) does."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pykexec.backends.backend import LoadState, Slot
from pykexec.backends.kernel.backend import Start
from pykexec.cli.kexec8 import loading
from pykexec.cli.kexec8.wishes import Do
from pykexec.errors import NotSupported
from pykexec.machine import Unknown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pykexec.cli.kexec8.drop_in import DropInKernel
    from pykexec.cli.kexec8.wishes import Wishes
    from pykexec.images.contents import Contents

LOADED = 1
"""The exit status of --status for a loaded image, and for nothing else."""


def act(asked: Wishes, kernel: DropInKernel, initrd: Contents | None) -> int:
    match asked.do:
        case Do.STATUS:
            return status(asked, kernel)
        case Do.REGION_SIZE:
            print(_region_size(kernel), flush=True)
        case Do.UNLOAD:
            unload(asked, kernel)
        case Do.EXEC:
            start(asked, kernel)
        case _:
            load(asked, kernel, initrd)
    return 0


def status(asked: Wishes, kernel: DropInKernel) -> int:
    slot = Slot.CRASH if asked.panic else Slot.NORMAL
    state = kernel.status()[slot]
    if state is LoadState.UNKNOWN:
        raise NotSupported(
            f"it is unknown whether the {slot} image is loaded",
            hint="/sys/kernel/kexec_loaded and kexec_crash_loaded need CONFIG_KEXEC",
        )
    return LOADED if state is LoadState.LOADED else 0


def _region_size(kernel: DropInKernel) -> int:
    """Bytes of the crash region; 0 without one."""
    reserved = kernel.machine().crash_kernel
    if not isinstance(reserved, Unknown):
        return reserved.ranges[-1].size if reserved else 0
    size = kernel.machine().kexec.crash_size
    if isinstance(size, Unknown):
        raise NotSupported(f"the crash region is {reserved}", hint="run as root")
    return size


def unload(asked: Wishes, kernel: DropInKernel) -> None:
    with kernel.session():
        kernel.unload(Slot.CRASH if asked.panic else Slot.NORMAL)


def load(asked: Wishes, kernel: DropInKernel, initrd: Contents | None) -> None:
    """Load, and then do what follows; the checks of the latter come before the load."""
    reboots = asked.do is Do.LOAD_AND_REBOOT
    shutdown = _find_shutdown(kernel.calls.shutdown_folders) if reboots else None
    loading.load(asked, kernel, initrd)
    if asked.do is Do.LOAD_AND_EXEC:
        start(asked, kernel)
    elif shutdown:
        kernel.require_loaded()
        if asked.sync:
            kernel.calls.sync()
        kernel.calls.execute(shutdown, ("shutdown", "-r", "now"))


def start(asked: Wishes, kernel: DropInKernel) -> None:
    """Start the image; does not return. This never starts the image of a panic mode."""
    with kernel.session():
        kernel.require_loaded()
        kernel.start(Start.KEXEC, asked.sync)


def _find_shutdown(folders: Sequence[Path]) -> Path:
    """The path of shutdown(8). Raises NotSupported if there is none."""
    for folder in folders:
        found = folder / "shutdown"
        if os.access(found, os.X_OK) and found.is_file():
            return found
    raise NotSupported(
        f"no shutdown program found in {', '.join(map(str, folders))}",
        hint="load with -l, then reboot as usual on this system",
    )
