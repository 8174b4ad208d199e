"""Finished ELF core headers put into an image that is loaded already.

The kernel of the proposal exports the backup map after the load and takes the headers
then, before anything else can happen to them.
"""

from __future__ import annotations

from pykexec.backends.simulated.kimage import KImage
from pykexec.backends.simulated.ram import Ram
from pykexec.errors import DoesNotFit, KexecError
from pykexec.memory.ranges import PhysRange


class NotInImage(KexecError):
    """An address that no segment of the image has."""

    code = "not-in-image"


def holds(image: KImage, addr: int) -> bool:
    """Whether a segment of the image has that byte."""
    return any(segment.memsz and addr in segment.range for segment in image.segments)


def bind(image: KImage, ram: Ram, addr: int, headers: bytes) -> None:
    """Write `headers` where the bytes for `addr` wait. Raises NotInImage, DoesNotFit."""
    segment = next((item for item in image.segments if item.memsz and addr in item.range), None)
    if segment is None:
        raise NotInImage(f"no segment of the loaded image has {addr:#x}", addr=addr)
    room = segment.range.end - addr
    if len(headers) > room:
        raise DoesNotFit(
            f"{len(headers):#x} bytes of ELF core headers do not fit into segment "
            f'"{segment.name}" ({room:#x} bytes from {addr:#x})',
            segment=segment.name,
        )
    if headers:
        for offset, now in image.where(ram, PhysRange.sized(addr, len(headers))):
            ram.write(now.start, headers[offset : offset + now.size])
