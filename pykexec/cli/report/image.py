"""The result of `inspect` for a kernel image."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

from pykexec.cli.out.blocks import Block, Facts
from pykexec.cli.report.document_parts import kernel
from pykexec.cli.report.error import fact
from pykexec.cli.report.file_parts import in_words
from pykexec.cli.report.page_parts import Pairs, size
from pykexec.documents.files import Image, ImageProfile

if TYPE_CHECKING:
    from pykexec.images.kernel_image import Boot, KernelImage

NUMBERS_IN_HEX = frozenset(
    (
        *("protocol", "xloadflags", "pref_address", "load_addr", "initrd_addr_max", "entry"),
        *("addr", "low", "high"),
    )
)
"""Fields of a boot that are addresses or bit fields; the other numbers are sizes and counts."""
BYTES_OF_THE_FILE = frozenset(("setup_header", "setup", "contents"))


@dataclass(frozen=True)
class ImageReport:
    """What an image is, and what it requires."""

    found: KernelImage

    def document(self) -> Image:
        found, which = self.found, kernel(self.found)
        profiles = (ImageProfile(item.number, item.id, item.title) for item in found.profiles)
        return Image(
            type=which.type,
            version=which.version,
            sha256=which.sha256,
            wrapped=found.wrapped,
            initrd_inside=found.implied.initrd.size if found.implied.initrd else None,
            cmdline_inside=found.implied.cmdline,
            profiles=tuple(profiles),
            profile=found.profile,
            boot=boot(found.boot),
        )

    def page(self, verbose: int) -> list[Block]:
        """The same names as in JSON; sizes of memory also in readable form."""
        asked = ((name, in_words(value)) for name, value in boot(self.found.boot).items())
        return [Facts([*facts(self.found), *asked])]


def facts(found: KernelImage) -> Pairs:
    known = [
        ("type", found.type),
        ("version", found.version or "unknown"),
        ("sha256", found.file.sha256.hex() if found.file else "unknown"),
    ]
    if found.wrapped:
        known.append(("inside", ", ".join(found.wrapped)))
    if found.profiles:
        known.append(("profile", str(found.profile)))
        known.append(("profiles", "; ".join(map(str, found.profiles))))
    if found.implied.cmdline is not None:
        known.append(("cmdline inside", found.implied.cmdline))
    if found.implied.initrd:
        known.append(("initrd inside", size(found.implied.initrd.size)))
    return known


def boot(asked: Boot) -> dict[str, object]:
    """What the image requires: its fields, except those with bytes of the file."""
    return record(asked)


def record(value: Any) -> dict[str, object]:
    named = {field.name: getattr(value, field.name) for field in fields(value)}
    return {
        name: _boot_fact(name, item)
        for name, item in named.items()
        if name not in BYTES_OF_THE_FILE
    }


def _boot_fact(name: str, value: object) -> object:
    """The facts of a foreign image by name; pieces of an image as records."""
    if name == "facts" and isinstance(value, tuple):
        return {label.replace(" ", "_"): text for label, text in value}
    if isinstance(value, tuple):
        return [_boot_fact(name, item) for item in value]
    if is_dataclass(value):
        return record(value)
    if isinstance(value, int) and name in NUMBERS_IN_HEX:
        return hex(value)
    return fact(value)
