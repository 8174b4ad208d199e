"""Process 1 of the capture kernel: reads /proc/vmcore, page by page."""

from __future__ import annotations

import time
from base64 import b64encode
from dataclasses import asdict

from pykexec.dump.core_file import open_core
from pykexec.dump.vmcore_pages import count_patterns
from pykexec.qemu.guest import line_to_host

VMCORE = "/proc/vmcore"


def main() -> None:
    """Report the bytes before the memory of the dump, its size, and the pages of the pattern."""
    with line_to_host() as send:
        send(step="capture kernel: reading /proc/vmcore")
        core = open_core(VMCORE)
        head = core.file.read(0, min((item.p_offset for item in core.loads), default=core.size))
        patterns = asdict(count_patterns(core))
        send(dump={"size": core.size, "head": b64encode(head).decode(), "patterns": patterns})
    time.sleep(3600)  # the host ends this machine
