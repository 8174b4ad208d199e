"""pykexec inspect."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pykexec.cli.verbs.params import PATH, Verb, output_options, profile_option

if TYPE_CHECKING:
    from pykexec.cli.output import Kind

KINDS: dict[str, Kind] = {
    "KernelImage": "image",
    "Initrd": "initrd",
    "ZeroPage": "zero_page",
    "CoreHeaders": "core_headers",
    "CoreFile": "vmcore_info",
}
"""How each class of inspection.Found is shown."""


@click.command(cls=Verb, short_help="Show what a file is and what it needs.")
@click.argument("file", type=PATH)
@click.option("--type", "image_type", metavar="TYPE", help="Treat the file as an image of TYPE.")
@profile_option
@click.option(
    "--extract",
    nargs=2,
    type=(click.Choice(["vmlinux"]), PATH),
    metavar="vmlinux OUT",
    help="Write the packed kernel to the new file OUT.",
)
@output_options
def command(
    file: Path,
    image_type: str | None,
    profile: int | None,
    extract: tuple[str, Path] | None,
    as_json: bool,
    verbose: int,
) -> None:
    """Show what FILE is and what it needs.

    FILE is a kernel image, an initrd, a zero page (boot_params), ELF core headers, or a dump.
    """
    from pykexec.cli.output import Output
    from pykexec.flows import inspect as inspection

    output = Output(as_json, verbose)
    if extract:
        found: inspection.Found = inspection.extract_vmlinux(file, extract[1], image_type, profile)
        output.note(f"{extract[1]}: {extract[1].stat().st_size} bytes written")
    else:
        found = inspection.inspect_file(file, image_type, profile)
    output.show(KINDS[type(found).__name__], found)
