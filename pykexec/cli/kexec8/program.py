"""One call of kexec(8): words in, an exit status out; every fault becomes its line here."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from pykexec.cli.kexec8.name import FAILED, NAME
from pykexec.cli.kexec8.say import refuse, say
from pykexec.cli.kexec8.wishes import Call, Do, Wishes, wishes
from pykexec.cli.streams import interrupted
from pykexec.errors import KexecError, NotSupported
from pykexec.images.contents import Contents, joined_initrd
from pykexec.images.digest_ahead import digest_ahead

if TYPE_CHECKING:
    # Not at run time: a large initrd is read while all this is imported.
    from pykexec.cli.kexec8.kernel import DropInKernel

LOADED = 1
"""Of --status, and of it alone when that was asked."""


def this_kernel(debug: bool) -> DropInKernel:
    """The real one."""
    from pykexec.backends.kernel.calls import ThisKernel
    from pykexec.cli.kexec8.kernel import DropInKernel

    return DropInKernel(ThisKernel(), debug=debug)


def run(words: Sequence[str], made: Callable[[bool], DropInKernel]) -> int:
    """The exit status: 0, 1 or 255. `made` gives the kernel to act on, told whether to show
    what it is given."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup(1)
            signal.signal(number, terminate)
    unloading = asks_status = debug = False
    kernel = None
    try:
        asked = wishes(words)
        unloading, asks_status = asked.do is Do.UNLOAD, asked.do is Do.STATUS
        debug = asked.debug
        say(f"{NAME}: note: {note}" for note in asked.notes)
        initrd = open_initrd(asked)
        if asked.do in (Do.HELP, Do.VERSION):
            return tell(asked.do)
        kernel = made(asked.debug)
        return act(asked, kernel, initrd)
    except KexecError as error:
        status = refuse(error, kernel.given if kernel else None, unloading, debug)
        return FAILED if asks_status or looks_like_status(words) else status
    except KeyboardInterrupt:
        return interrupted(NAME, FAILED)
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            what = f"{error.filename}: " if error.filename else ""
            say([f"{NAME}: {what}{(error.strerror or str(error)).lower()}"])
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def terminate(number: int, frame: FrameType | None) -> None:
    """What is half done is undone on the way out, as at an interrupt."""
    raise KeyboardInterrupt


def looks_like_status(words: Sequence[str]) -> bool:
    """Where 1 would be taken for an answer."""
    return any(
        word == "--status" or (word[:1] == "-" and word[1:2] != "-" and "S" in word)
        for word in words
    )


def open_initrd(asked: Wishes) -> Contents | None:
    """As early as possible: with -c its digest is made beside everything else."""
    if not asked.loads:
        return None
    initrd = joined_initrd(asked.initrds)
    if asked.call is not Call.CLASSIC or not asked.checks:
        return initrd
    return digest_ahead(initrd, copy=True)


def tell(what: Do) -> int:
    from pykexec.cli.kexec8.usage import VERSION, usage

    for line in usage() if what is Do.HELP else [VERSION]:
        print(line)
    sys.stdout.flush()
    return 0


def act(asked: Wishes, kernel: DropInKernel, initrd: Contents | None) -> int:
    match asked.do:
        case Do.STATUS:
            return status(asked, kernel)
        case Do.REGION_SIZE:
            print(region_size(kernel), flush=True)
        case Do.UNLOAD:
            unload(asked, kernel)
        case Do.EXEC:
            start(asked, kernel)
        case _:
            load(asked, kernel, initrd)
    return 0


def status(asked: Wishes, kernel: DropInKernel) -> int:
    from pykexec.backends.backend import LoadState, Slot

    slot = Slot.CRASH if asked.panic else Slot.NORMAL
    state = kernel.status()[slot]
    if state is LoadState.UNKNOWN:
        raise NotSupported(
            f"it is unknown whether the {slot} image is loaded",
            hint="/sys/kernel/kexec_loaded and kexec_crash_loaded need CONFIG_KEXEC",
        )
    return LOADED if state is LoadState.LOADED else 0


def region_size(kernel: DropInKernel) -> int:
    """Bytes of the region that a crash kernel is loaded into; 0 without one."""
    from pykexec.machine import Unknown

    reserved = kernel.machine().crash_kernel
    if not isinstance(reserved, Unknown):
        return reserved.ranges[-1].size if reserved else 0
    size = kernel.machine().kexec.crash_size
    if isinstance(size, Unknown):
        raise NotSupported(f"the crash region is {reserved}", hint="run as root")
    return size


def unload(asked: Wishes, kernel: DropInKernel) -> None:
    from pykexec.backends.backend import Slot

    with kernel.session():
        kernel.unload(Slot.CRASH if asked.panic else Slot.NORMAL)


def load(asked: Wishes, kernel: DropInKernel, initrd: Contents | None) -> None:
    """And what follows it, whose own checks come before the load."""
    from pykexec.cli.kexec8.loading import load as load_image

    reboots = asked.do is Do.LOAD_AND_REBOOT
    shutdown = find_shutdown(kernel.calls.shutdown_folders) if reboots else None
    load_image(asked, kernel, initrd)
    if asked.do is Do.LOAD_AND_EXEC:
        start(asked, kernel)
    elif shutdown:
        kernel.require_loaded()
        if asked.sync:
            kernel.calls.sync()
        kernel.calls.execute(shutdown, ("shutdown", "-r", "now"))


def start(asked: Wishes, kernel: DropInKernel) -> None:
    """Does not return. The image of a panic mode is never started by this."""
    from pykexec.backends.kernel.backend import Start

    with kernel.session():
        kernel.require_loaded()
        kernel.start(Start.KEXEC, asked.sync)


def find_shutdown(folders: Sequence[Path]) -> Path:
    """Raises NotSupported."""
    for folder in folders:
        found = folder / "shutdown"
        if os.access(found, os.X_OK) and found.is_file():
            return found
    raise NotSupported(
        f"no shutdown program found in {', '.join(map(str, folders))}",
        hint="load with -l, then reboot in the way of this system",
    )
