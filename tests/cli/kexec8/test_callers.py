"""The command lines of known callers of kexec."""

from __future__ import annotations

import pytest

from pykexec.backends.backend import LoadState, Slot
from tests.backends.kernel.calls import Calls

from .conftest import Kexec, MadeUp

LINE = "root=/dev/vda1 ro irqpoll nr_cpus=1 reset_devices"
LOADS = {
    "systemd": ["--load", "bzImage", "--append", LINE, "--initrd", "initrd"],
    "kexec-load": ["-l", "bzImage", "--initrd=initrd", f"--append={LINE}"],
    "kdump-config": ["-p", f"--command-line={LINE}", "--initrd=initrd", "bzImage"],
    "kdump-config, Secure Boot": [
        *("-p", "-s", f"--command-line={LINE}", "--initrd=initrd", "bzImage"),
    ],
    "kdump-config, an ELF file": [
        *("-p", "--args-linux", f"--command-line={LINE}", "--initrd=initrd", "bzImage"),
    ],
    "kdumpctl": [
        *("--elf64-core-headers", "-p", f"--command-line={LINE}", "--initrd=initrd", "bzImage"),
    ],
    "kdumpctl, by default": [
        *("-s", "--elf32-core-headers", "-p", f"--command-line={LINE}"),
        *("--initrd=initrd", "bzImage"),
    ],
    "kdumpctl, older": [
        *("-s", "-d", "-p", f"--command-line={LINE}", "--initrd=initrd", "bzImage"),
    ],
    "openSUSE's load.sh": ["-p", "bzImage", f"--append={LINE}", "--initrd=initrd", "-a"],
}
"""Caller: arguments."""


@pytest.mark.parametrize("caller", LOADS)
def test_loads(kexec: Kexec, calls: Calls, caller: str) -> None:
    kexec(*LOADS[caller])
    assert [line for line, _, _ in calls.files] == [LINE]
    assert calls.loads == []


@pytest.mark.parametrize("words", ["-p -u", "-s -p -u", "-pu", "-u"])
def test_unloads(kexec: Kexec, calls: Calls, words: str) -> None:
    result = kexec(words)
    assert len(calls.unloads) == 1
    assert (result.out, result.err) == ("", "")


def test_starts(kexec: Kexec, calls: Calls, kernel: MadeUp) -> None:
    """kexec-tools' init script and unit, petitboot."""
    kernel.states[Slot.NORMAL] = LoadState.LOADED
    for words in ("-e", "-f -e"):
        kexec(words)
    assert calls.others == ["sync", "reboot"] * 2
