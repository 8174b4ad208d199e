"""`pykexec-kexec`: the command line of kexec(8) for x86_64, over the same flow as `pykexec`.

It is always the real kernel. What differs from kexec-tools on purpose is in options.py,
option by option, and in pykexec-kexec(8). Importing this imports almost nothing: a large
initrd is read while the rest is imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pykexec.cli.kexec8.kernel import DropInKernel


def main() -> None:
    """The program `pykexec-kexec`: ends the process with 0, 1 or 255."""
    import sys

    from pykexec.cli import open_closed_streams
    from pykexec.cli.kexec8.program import run

    open_closed_streams()
    sys.exit(run(sys.argv[1:], this_kernel))


def this_kernel(debug: bool) -> DropInKernel:
    """The real one."""
    from pykexec.backends.kernel.calls import ThisKernel
    from pykexec.cli.kexec8.kernel import DropInKernel

    return DropInKernel(ThisKernel(), debug=debug)
