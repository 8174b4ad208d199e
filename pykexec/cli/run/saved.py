"""What `saved` does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.backends.saving.announcing import call_hook, forget, remember, wall
from pykexec.backends.saving.limited import StepFailed
from pykexec.cli.output import Output
from pykexec.cli.report.saved import SavedListReport, announcement
from pykexec.documents.codec import encode
from pykexec.errors import CheckFailed
from pykexec.flows.save import saved
from pykexec.flows.save.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pykexec.documents.saved import SavedDumps
    from pykexec.flows.save.settings import SaveSettings


def run(announce: bool, config: Path | None, as_json: bool, verbose: int) -> int:
    """The exit status."""
    output = Output(as_json, verbose)
    settings, faults = read_settings(config)
    output.warn(fault.message for fault in faults)
    found = saved.all_saved(settings, announce)
    output.show(SavedListReport(found))
    if announce and (found.dumps or found.lost):
        _tell(found, settings, output.warn)
    return CheckFailed.exit_status if found.lost else 0


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
