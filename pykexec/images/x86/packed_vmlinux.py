"""The vmlinux inside a bzImage."""

from __future__ import annotations

from pykexec.abi.elf import ELFMAG
from pykexec.abi.x86.bootparam import setup_header
from pykexec.errors import NotSupported
from pykexec.images.compression import MAX_KEPT, file_codec, unpack
from pykexec.images.contents import InnerFile, OpenFile
from pykexec.images.kernel_image import KernelImage, Linux32Boot, LinuxX86Boot
from pykexec.images.x86.bzimage import HAS_PAYLOAD, SECTOR


class NoVmlinux(NotSupported):
    """There is no compressed kernel in it, or no information where it is."""

    code = "no-vmlinux"
    usual_hint = "the file is damaged, or compressed in an unknown way"


def packed_vmlinux(image: KernelImage) -> OpenFile:
    """As a file without a name; its contents may be followed by relocations."""
    file = image.inner
    if file is None or not isinstance(image.boot, LinuxX86Boot | Linux32Boot):
        raise NoVmlinux(
            f"{image.path}: an image of type {image.type} contains no vmlinux",
            hint="use a bzImage, or a file that contains one",
        )
    if file.read(0, 4) == ELFMAG:
        return file
    header = setup_header.parse(image.boot.setup_header)
    start = (header.setup_sects or 4) * SECTOR + SECTOR + header.payload_offset
    size = header.payload_length
    if image.boot.protocol < HAS_PAYLOAD or not size or start + size > file.size:
        raise NoVmlinux(
            f"{image.path}: the header does not contain the address of the packed kernel",
            hint="use an image of boot protocol 2.08 or later (Linux 2.6.26)",
        )
    inner = InnerFile(file, start, size)
    codec = file_codec(inner)
    if codec is None:
        if inner.read(0, min(4, size)) == ELFMAG:
            return inner
        raise NoVmlinux(f"{image.path}: the compression of the packed kernel is unknown")
    unpacked = unpack(inner, codec, MAX_KEPT - file.size if image.wrapped else MAX_KEPT)
    if unpacked.read(0, min(4, unpacked.size)) != ELFMAG:
        raise NoVmlinux(f"{image.path}: the packed kernel is not an ELF file")
    return unpacked
