"""What `inspect` does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.cli.output import Output
from pykexec.cli.report.core_headers import CoreHeadersReport
from pykexec.cli.report.image import ImageReport
from pykexec.cli.report.initrd import InitrdReport
from pykexec.cli.report.vmcore import VmcoreReport
from pykexec.cli.report.zero_page import ZeroPageReport
from pykexec.dump.core_file import CoreFile
from pykexec.flows.inspect import CoreHeaders, extract_vmlinux, inspect_file
from pykexec.images.initrd import Initrd
from pykexec.images.kernel_image import KernelImage
from pykexec.images.x86.zero_page import ZeroPage

if TYPE_CHECKING:
    from pathlib import Path

    from pykexec.cli.report.answer import Answer
    from pykexec.flows.inspect import Found


def run(
    file: Path,
    image_type: str | None,
    profile: int | None,
    extract: tuple[str, Path] | None,
    as_json: bool,
    verbose: int,
) -> None:
    output = Output(as_json, verbose)
    if extract:
        found: Found = extract_vmlinux(file, extract[1], image_type, profile)
        output.note(f"{extract[1]}: {extract[1].stat().st_size} bytes written")
    else:
        found = inspect_file(file, image_type, profile)
    output.show(report(found))


def report(found: Found) -> Answer:
    """The result for each kind of file."""
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
