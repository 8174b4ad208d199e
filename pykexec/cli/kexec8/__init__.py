"""`pykexec-kexec`: the command line of kexec(8) for x86_64 and arm64, with the same flow as
`pykexec`.

It always acts on the real kernel. Intentional differences from kexec-tools are in options.py,
option by option, and in pykexec-kexec(8). Importing this imports almost nothing: a large initrd is
read while the rest is imported, and from here on an interrupt prints a message.
"""

import sys

from pykexec.cli.collector import collect_rarely
from pykexec.cli.kexec8.name import FAILED, NAME
from pykexec.cli.streams import guard_streams, interrupted


def main() -> None:
    """Run the program `pykexec-kexec`, and end the process with 0, 1 or 255."""
    try:
        collect_rarely()
        guard_streams()
        from pykexec.cli.kexec8.program import run, this_kernel

        sys.exit(run(sys.argv[1:], this_kernel))
    except KeyboardInterrupt:
        sys.exit(interrupted(NAME, FAILED))
