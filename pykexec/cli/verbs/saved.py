"""pykexec saved: what capture kernels have left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pykexec.cli.verbs.params import Verb, config_option, output_options

if TYPE_CHECKING:
    from pykexec.documents.saved import SavedDumps
    from pykexec.flows.save.settings import SaveSettings


@click.command(cls=Verb)
@click.option(
    "--announce",
    is_flag=True,
    help="Show only dumps that are new, and tell users and SAVE_HOOK about them.",
)
@config_option
@output_options
@click.pass_context
def command(
    ctx: click.Context, announce: bool, config: Path | None, as_json: bool, verbose: int
) -> None:
    """Show the dumps that capture kernels have saved, oldest first.

    The exit status is 3 if a dump was lost: the last boot ended without a shutdown while a
    crash dump was armed, and no dump was saved.
    """
    from pykexec.cli.output import Output
    from pykexec.cli.report.saved import SavedListReport
    from pykexec.errors import CheckFailed
    from pykexec.flows.save.saved import all_saved
    from pykexec.flows.save.settings import read_settings

    output = Output(as_json, verbose)
    settings, faults = read_settings(config)
    output.warn(fault.message for fault in faults)
    found = all_saved(settings, announce)
    output.show(SavedListReport(found))
    if announce and (found.dumps or found.lost):
        tell(found, settings, output.warn)
    if found.lost:
        ctx.exit(CheckFailed.exit_status)


def tell(found: SavedDumps, settings: SaveSettings, warn: Callable[[list[str]], None]) -> None:
    """Users and the administrator's command, once for each dump and each loss."""
    from pykexec.backends.saving.announcing import call_hook, forget, remember, wall
    from pykexec.backends.saving.limited import StepFailed
    from pykexec.cli.report.saved import announcement
    from pykexec.documents.codec import encode
    from pykexec.flows.save.saved import ARMED, REPORTED, listed

    calls: list[Callable[[], None]] = [lambda: wall(announcement(found))]
    if settings.hook:
        hook = settings.hook
        calls.append(lambda: call_hook(hook, encode(found)))
    for call in calls:
        try:
            call()
        except StepFailed as error:
            warn([error.message])
    remember(REPORTED, [dump.name for dump in listed(found.folder)])
    forget(ARMED)
