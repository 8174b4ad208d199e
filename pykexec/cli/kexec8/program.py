"""One call of kexec(8), from words to an exit status; every error is printed here.

The modules that act are imported after the files were opened: a large initrd is read meanwhile."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING

from pykexec.cli.kexec8.name import FAILED, NAME
from pykexec.cli.kexec8.say import say
from pykexec.cli.kexec8.usage import VERSION, usage
from pykexec.cli.kexec8.wishes import Call, Do, Wishes, wishes
from pykexec.cli.streams import interrupted
from pykexec.errors import KexecError
from pykexec.images.contents import Contents, joined_initrd
from pykexec.images.digest_ahead import digest_ahead

if TYPE_CHECKING:
    # Not at run time: a large initrd is read while all this is imported.
    from pykexec.cli.kexec8.drop_in import DropInKernel


def this_kernel(debug: bool) -> DropInKernel:
    """The real kernel."""
    from pykexec.backends.kernel.calls import ThisKernel
    from pykexec.cli.kexec8.drop_in import DropInKernel

    return DropInKernel(ThisKernel(), debug=debug)


def run(words: Sequence[str], made: Callable[[bool], DropInKernel]) -> int:
    """The exit status: 0, 1 or 255. `made` returns the kernel to act on; its argument is whether to
    show the calls."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup(1)
            signal.signal(number, _terminate)
    unloading = asks_status = debug = False
    kernel = None
    try:
        asked = wishes(words)
        unloading, asks_status = asked.do is Do.UNLOAD, asked.do is Do.STATUS
        debug = asked.debug
        say(f"{NAME}: note: {note}" for note in asked.notes)
        initrd = _open_initrd(asked)
        if asked.do in (Do.HELP, Do.VERSION):
            return _tell(asked.do)
        kernel = made(asked.debug)
        from pykexec.cli.kexec8.act import act

        return act(asked, kernel, initrd)
    except KexecError as error:
        from pykexec.cli.kexec8.refused import refuse

        status = refuse(error, kernel.given if kernel else None, unloading, debug)
        return FAILED if asks_status or _looks_like_status(words) else status
    except KeyboardInterrupt:
        return interrupted(NAME, FAILED)
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            what = f"{error.filename}: " if error.filename else ""
            say([f"{NAME}: {what}{(error.strerror or str(error)).lower()}"])
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _terminate(number: int, frame: FrameType | None) -> None:
    """Undo what is half done before exiting, as at an interrupt."""
    raise KeyboardInterrupt


def _looks_like_status(words: Sequence[str]) -> bool:
    """Whether exit status 1 would be interpreted as an answer."""
    return any(
        word == "--status" or (word[:1] == "-" and word[1:2] != "-" and "S" in word)
        for word in words
    )


def _open_initrd(asked: Wishes) -> Contents | None:
    """Open it as early as possible: with -c its digest is computed in parallel."""
    if not asked.loads:
        return None
    initrd = joined_initrd(asked.initrds)
    if asked.call is not Call.CLASSIC or not asked.checks:
        return initrd
    return digest_ahead(initrd, copy=True)


def _tell(what: Do) -> int:
    for line in usage() if what is Do.HELP else [VERSION]:
        print(line)
    sys.stdout.flush()
    return 0
