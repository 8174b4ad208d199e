"""Whether setup has changed this machine, but the record of it is missing."""

from __future__ import annotations

from pykexec.errors import KexecError
from pykexec.flows.setup.change import MADE
from pykexec.host.root import Root, text
from pykexec.host.setup_facts import GRUB_DROP_IN, INITRD_DROP_IN, STATE, SYSCTLS

LINE_MAX = 4096
"""Bytes of a file that are read: its first line names its maker."""


class RecordLost(KexecError):
    """There are files that setup has made, but nothing tells what was there before."""

    code = "setup-record-lost"


def check_not_lost(root: Root) -> None:
    """For a root without a record. Raises RecordLost."""
    found = [
        path
        for path in (GRUB_DROP_IN, INITRD_DROP_IN, SYSCTLS)
        if (text(root, path, LINE_MAX) or "").startswith(MADE)
    ]
    if found:
        raise RecordLost(
            f"{', '.join(found)}: made by pykexec setup, whose record in {STATE} is missing",
            hint="run systemctl disable --now pykexec-crash.service pykexec-saved.service, remove "
            "these files, and update the menu of the boot loader",
        )
