"""Finished ELF core headers put into an image that is loaded already.

The kernel of the proposal exports the backup map after the load and takes the headers
then. They are in no digest of the purgatory; the seal vouches for them, and is written
together with them.
"""

from __future__ import annotations

from pykexec.backends.simulated.kimage import KImage
from pykexec.backends.simulated.ram import Ram
from pykexec.errors import DoesNotFit, KexecError
from pykexec.memory.ranges import PhysRange
from pykexec.purgatory import SEAL_SIZE, STUB_SIZE, BadStub, Seal, StubParams, parse_params


class NotInImage(KexecError):
    """An address that no segment of the image has."""

    code = "not-in-image"


def bind(image: KImage, ram: Ram, addr: int, headers: bytes) -> None:
    """Write `headers` where the bytes of `addr` wait, and seal them if the image has a
    stub that wants it. Raises NotInImage, DoesNotFit."""
    segment = next((item for item in image.segments if item.memsz and addr in item.range), None)
    if segment is None:
        raise NotInImage(f"no segment of the loaded image has {addr:#x}", addr=addr)
    if addr + len(headers) > segment.range.end:
        raise DoesNotFit(
            f"{len(headers):#x} bytes of ELF core headers do not fit into segment "
            f'"{segment.name}" ({segment.range.end - addr:#x} bytes from {addr:#x})',
            segment=segment.name,
        )
    write_waiting(image, ram, addr, headers)
    params = stub_params(image, ram)
    if params and params.seal:
        if not image.covers(PhysRange.sized(params.seal, SEAL_SIZE)):
            raise NotInImage(f"no segment of the loaded image has the seal {params.seal:#x}")
        write_waiting(image, ram, params.seal, bytes(Seal.of(addr, headers)))


def stub_params(image: KImage, ram: Ram) -> StubParams | None:
    """Of the stub at the entry; None where that is something else."""
    span = PhysRange.sized(image.start, STUB_SIZE)
    if not image.covers(span):
        return None
    try:
        return parse_params(read_waiting(image, ram, span))
    except BadStub:
        return None


def read_waiting(image: KImage, ram: Ram, span: PhysRange) -> bytes:
    """Bytes of the image by where they will be, before the switch."""
    return b"".join(ram.read(now.start, now.size) for _, now in image.where(ram, span))


def write_waiting(image: KImage, ram: Ram, addr: int, data: bytes) -> None:
    """The same for writing."""
    for offset, now in image.where(ram, PhysRange.sized(addr, len(data))):
        ram.write(now.start, data[offset : offset + now.size])
