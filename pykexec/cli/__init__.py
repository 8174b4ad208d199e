"""The command line. Importing it, `--help` and completion import only click: everything else is
imported when a verb runs (see `run`)."""

from __future__ import annotations

import sys

from pykexec.cli.collector import collect_rarely
from pykexec.cli.streams import INTERRUPTED, guard_streams, interrupted


def main() -> None:
    """Run the program `pykexec`, and end the process with the documented exit status."""
    try:
        collect_rarely()
        guard_streams()
        from pykexec.cli.program import program

        program.main(prog_name="pykexec")
    except KeyboardInterrupt:
        sys.exit(interrupted("pykexec", INTERRUPTED))
