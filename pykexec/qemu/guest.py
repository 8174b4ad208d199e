"""Common parts of process 1 in both kernels: file systems, and a serial line to the host."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from pykexec import libc
from pykexec.errors import KexecError, UsageError
from pykexec.qemu.board import board_for

MOUNTS = (("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"))
KERNEL, INITRD, WISHES = "/boot/kernel", "/boot/initrd", "/boot/wishes.json"
"""Files of the first kernel."""


class NotInAGuest(UsageError):
    """Code for process 1 of a guest would mount over, or crash, another machine."""

    code = "not-in-a-guest"


class Send(Protocol):
    """Sends one JSON object."""

    def __call__(self, **fields: object) -> None: ...


def only_in_a_guest() -> None:
    """Raises NotInAGuest."""
    if os.getpid() != 1:
        raise NotInAGuest("this is process 1 of a rehearsal's guest, and of nothing else")


@contextmanager
def line_to_host() -> Iterator[Send]:
    """Mounts what a guest needs; raises NotInAGuest before that. A KexecError is sent to the host
    and ends here; any other ends process 1 and the machine, with the traceback at the end of the
    console."""
    only_in_a_guest()
    for kind, folder in MOUNTS:
        libc.mount(kind, folder, kind, 0, "")
    board = board_for(os.uname().machine)
    assert board, "the host chose it"
    with open(board.port, "w") as port:

        def send(**fields: object) -> None:
            print(json.dumps(fields), file=port, flush=True)

        try:
            yield send
        except KexecError as error:
            fault = {"code": error.code, "message": error.message, "hint": error.hint}
            send(refused=fault, status=error.exit_status)
