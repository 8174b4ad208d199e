"""pykexec save: what the capture kernel runs."""

from __future__ import annotations

from typing import Any

import click

from pykexec.cli import run
from pykexec.cli.verbs.params import PATH, Verb, config_option, output_options


@click.command(cls=Verb)
@click.option(
    "--vmcore",
    type=PATH,
    metavar="FILE",
    help="Save FILE instead of /proc/vmcore, and do not reboot.",
)
@config_option
@output_options
def command(**options: Any) -> int:
    """Save the crash dump of this capture kernel, and reboot.

    Save the kernel log and a report first, then the dump; verify it, remove old dumps, and
    reboot, as configured in /etc/pykexec.conf. Each step has a time limit. Without /proc/vmcore,
    which only a capture kernel has, nothing is done.
    """
    return run.save.run(**options)
