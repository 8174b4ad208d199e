"""The end of a capture: the machine comes back up, whatever happened before."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal

from pykexec.backends.saving.limited import StepFailed, limited

SYSRQ = Path("/proc/sysrq-trigger")
SYNC_SECONDS, ORDER_SECONDS, GRACE_SECONDS = 60, 30, 60
SHELL = ("systemctl", "start", "pykexec-save-shell.service")
"""Starts a shell outside of this service, which has few privileges, and waits for its end.
systemd-run --wait would need a D-Bus daemon, and a capture system has none."""
ORDERS = {
    "reboot": ("systemctl", "--force", "reboot"),
    "halt": ("systemctl", "--force", "halt"),
    "poweroff": ("systemctl", "--force", "poweroff"),
}
LAST_RESORT = {"reboot": "sub", "halt": "suo", "poweroff": "suo"}
"""Keys of sysrq: sync, remount read-only, then reboot or power off."""


def end_machine(
    action: Literal["reboot", "halt", "poweroff", "shell"], say: Callable[[str], None]
) -> None:
    """Does not return if possible; the machine reboots when a shell ends."""
    if action == "shell":
        say("opening a shell; the machine reboots when it ends")
        with suppress(OSError):
            if status := subprocess.run(SHELL, check=False).returncode:
                say(f"{' '.join(SHELL)}: exit status {status}")
        action = "reboot"
    say(f"{action} follows")
    for order, seconds in ((os.sync, SYNC_SECONDS), (given(ORDERS[action]), ORDER_SECONDS)):
        try:
            limited(order, seconds)
        except StepFailed as error:
            say(f"{action}: {error.message}")
    time.sleep(GRACE_SECONDS)  # systemd ends this process
    for key in LAST_RESORT[action]:
        SYSRQ.write_text(key)
        time.sleep(2)


def given(words: tuple[str, ...]) -> Callable[[], None]:
    def order() -> None:
        if status := subprocess.run(words, check=False).returncode:
            raise StepFailed(f"{' '.join(words)}: exit status {status}")

    return order
