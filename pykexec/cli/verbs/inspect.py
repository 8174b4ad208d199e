"""pykexec inspect."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pykexec.cli.verbs.params import PATH, Verb, output_options, profile_option

if TYPE_CHECKING:
    from pykexec.cli.report.answer import Answer
    from pykexec.flows.inspect import Found


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
    output.show(report(found))


def report(found: Found) -> Answer:
    """The answer for each kind of file."""
    from pykexec.cli.report.core_headers import CoreHeadersReport
    from pykexec.cli.report.image import ImageReport
    from pykexec.cli.report.initrd import InitrdReport
    from pykexec.cli.report.vmcore import VmcoreReport
    from pykexec.cli.report.zero_page import ZeroPageReport
    from pykexec.dump.core_file import CoreFile
    from pykexec.flows.inspect import CoreHeaders, ZeroPage
    from pykexec.images.initrd import Initrd
    from pykexec.images.kernel_image import KernelImage

    match found:
        case KernelImage():
            return ImageReport(found)
        case Initrd():
            return InitrdReport(found)
        case ZeroPage():
            return ZeroPageReport(found)
        case CoreHeaders():
            return CoreHeadersReport(found)
        case CoreFile():
            return VmcoreReport(found)
