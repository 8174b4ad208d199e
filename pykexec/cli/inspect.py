"""pykexec inspect."""

from __future__ import annotations

from pathlib import Path

import click

from pykexec.cli.params import Verb, output_options

FILE = click.Path(path_type=Path)


@click.command(cls=Verb, short_help="Say what a file is and what it asks for.")
@click.argument("file", type=FILE)
@click.option("--type", "image_type", metavar="TYPE", help="Take the file as this image type.")
@click.option(
    "--extract",
    nargs=2,
    type=(click.Choice(["vmlinux"]), FILE),
    metavar="vmlinux OUT",
    help="Write the kernel that is packed in it to a new file.",
)
@output_options
def command(
    file: Path,
    image_type: str | None,
    extract: tuple[str, Path] | None,
    as_json: bool,
    verbose: int,
) -> None:
    """Say what FILE is, and what it asks for: a kernel image, or a dump."""
    from pykexec.cli.output import Output
    from pykexec.cli.reports import ImageReport
    from pykexec.crash.core_file import is_core, open_core
    from pykexec.errors import NotSupported
    from pykexec.images.identify import identify

    if extract:
        raise NotSupported("--extract is not built yet")
    output = Output(as_json, verbose)
    if image_type is None and is_core(file):
        output.show("vmcore_info", open_core(file))
    else:
        output.show("image", ImageReport(identify(file, image_type)))
