"""`pykexec-kexec`: the command line of kexec(8) for x86_64, over the same flow as `pykexec`.

It is always the real kernel. What differs from kexec-tools on purpose is in options.py,
option by option, and in pykexec-kexec(8). Importing this imports almost nothing: a large
initrd is read while the rest is imported, and an interrupt is heard in words from here on.
"""

import sys

from pykexec.cli.kexec8.name import FAILED, NAME
from pykexec.cli.streams import guard_streams, interrupted


def main() -> None:
    """The program `pykexec-kexec`: ends the process with 0, 1 or 255."""
    try:
        guard_streams()
        from pykexec.cli.kexec8.program import run, this_kernel

        sys.exit(run(sys.argv[1:], this_kernel))
    except KeyboardInterrupt:
        sys.exit(interrupted(NAME, FAILED))
