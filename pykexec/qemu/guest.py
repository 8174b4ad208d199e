"""What process 1 of either kernel has in common: file systems, and a line to the host."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from pykexec import libc
from pykexec.errors import KexecError, UsageError

MOUNTS = (("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"))
PORT = "/dev/ttyS1"
KERNEL, INITRD, WISHES = "/boot/kernel", "/boot/initrd", "/boot/wishes.json"
"""Files of the first kernel."""


class NotInAGuest(UsageError):
    """What is for process 1 of a guest would mount over, or crash, another machine."""

    code = "not-in-a-guest"


class Say(Protocol):
    """Sends one JSON object."""

    def __call__(self, **fields: object) -> None: ...


def only_in_a_guest() -> None:
    """Raises NotInAGuest."""
    if os.getpid() != 1:
        raise NotInAGuest("this is process 1 of a rehearsal's guest, and of nothing else")


@contextmanager
def line_to_host() -> Iterator[Say]:
    """Mounts what a guest needs; raises NotInAGuest before. A KexecError is said and ends here;
    any other ends process 1, and with it the machine, its traceback the last on the console."""
    only_in_a_guest()
    for kind, folder in MOUNTS:
        libc.mount(kind, folder, kind, 0, "")
    with open(PORT, "w") as port:

        def say(**fields: object) -> None:
            print(json.dumps(fields), file=port, flush=True)

        try:
            yield say
        except KexecError as error:
            fault = {"code": error.code, "message": error.message, "hint": error.hint}
            say(refused=fault, status=error.exit_status)
