"""What `saved` does."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pykexec.backends.saving.announcing import call_hook, forget, remember, wall
from pykexec.backends.saving.limited import StepFailed
from pykexec.cli.out.openmetrics import write_textfile
from pykexec.cli.output import Output
from pykexec.cli.report.monitoring import saved_metrics
from pykexec.cli.report.saved import SavedListReport, announcement
from pykexec.documents.codec import encode
from pykexec.errors import CheckFailed, KexecError
from pykexec.flows.save import saved
from pykexec.flows.save.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pykexec.documents.saved import SavedDumps
    from pykexec.flows.save.settings import SaveSettings


def run(
    announce: bool, textfile: Path | None, config: Path | None, as_json: bool, verbose: int
) -> int:
    """List or announce the saved dumps; returns the exit status."""
    output = Output(as_json, verbose)
    settings, faults = read_settings(config)
    output.warn(fault.message for fault in faults)
    found = saved.all_saved(settings, announce)
    output.show(SavedListReport(found))
    written = textfile is None or _wrote(textfile, found, output)
    if announce and (found.dumps or found.lost):
        _tell(found, settings, output.warn)
    if found.lost:
        return CheckFailed.exit_status
    return 0 if written else KexecError.exit_status


def _wrote(path: Path, found: SavedDumps, output: Output) -> bool:
    """Metrics count all dumps, also those that were announced before."""
    dumps = saved.listed(found.folder)
    text = saved_metrics(dumps, found.lost is not None, int(time.time()))
    return write_textfile(path, text, output.warn)


def _tell(found: SavedDumps, settings: SaveSettings, warn: Callable[[list[str]], None]) -> None:
    """Notify users and the administrator's command, once for each dump and each loss."""
    calls: list[Callable[[], None]] = [lambda: wall(announcement(found))]
    if settings.hook:
        hook = settings.hook
        calls.append(lambda: call_hook(hook, encode(found)))
    for call in calls:
        try:
            call()
        except StepFailed as error:
            warn([error.message])
    remember(saved.REPORTED, [dump.name for dump in saved.listed(found.folder)])
    forget(saved.ARMED)
