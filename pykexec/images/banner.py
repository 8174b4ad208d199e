"""linux_banner, the text that every Linux kernel has in its .rodata."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pykexec.images.kernel_image import printable

if TYPE_CHECKING:
    from pykexec.images.contents import Contents

BANNER = re.compile(rb"Linux version (\d[^\0\n]{0,250})")
BANNER_MAX = 300


def banner(contents: Contents) -> str | None:
    """The banner of a kernel, e.g. "6.1.0 (...) ..."; None if there is none."""
    tail = b""
    for chunk in contents.chunks():
        window = tail + bytes(chunk)
        if found := BANNER.search(window):
            return printable(found[1])
        tail = window[-BANNER_MAX:]
    return None
