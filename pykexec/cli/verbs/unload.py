"""pykexec unload."""

from __future__ import annotations

from pathlib import Path

import click

from pykexec.cli.verbs.params import Verb, output_options, target_options


@click.command(cls=Verb, short_help="Unload an image and free its memory.")
@click.option("--crash", is_flag=True, help="Unload the crash image.")
@target_options
@output_options
def command(
    crash: bool, backend: str, machine_dir: Path | None, as_json: bool, verbose: int
) -> None:
    """Unload the image, and free every page that was allocated for it."""
    from pykexec.backends.backend import Slot
    from pykexec.cli.output import Output
    from pykexec.cli.report.unload import UnloadReport
    from pykexec.cli.verbs import target

    output = Output(as_json, verbose)
    where, acting = target.chosen(backend, machine_dir, output)
    slot = Slot.CRASH if crash else Slot.NORMAL
    with acting.session():
        was = acting.status()[slot]
        acting.unload(slot)
    output.show(UnloadReport(where, slot, was), f"the {slot} image is freed")
