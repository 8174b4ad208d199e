"""Checks the files that are given as an initrd, and finds the kernels whose modules are in it.

The kernel unpacks consecutive archives, each compressed or not (init/initramfs.c:
unpack_to_rootfs). What it cannot unpack it treats as a RAM disk image, and mounts it if it knows
the file system (init/do_mounts_rd.c:identify_ramdisk_image).

Only headers, the end, and at most MAX_SCANNED unpacked bytes are read: an initrd may have 200 MB.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from dataclasses import field

from pykexec.errors import NotSupported
from pykexec.frozen import dataclass
from pykexec.images.codecs import HEAD_SIZE, LZ4_FRAME_MAGIC, Codec, codec_of
from pykexec.images.compression import MAX_UNPACKED, BadCompression, unpacked
from pykexec.images.contents import Contents, FileSpan, InnerFile, Joined, OpenFile
from pykexec.images.cpio import (
    NEWC_MAGICS,
    Entry,
    NotAnInitrd,
    Stream,
    file_entries,
    stream_entries,
)
from pykexec.images.digest_ahead import DigestAhead
from pykexec.images.initrd import after_padding
from pykexec.images.stream_end import ends_well
from pykexec.images.what_is_it import HEAD, Role, identity_of

MAX_SCANNED = 96 << 20
"""Unpacked bytes of one file that are searched for modules."""
MAX_RELEASES = 64
"""Limit for the releases that are recorded; a hostile archive may have a million."""
MODULES = re.compile(rb"(?:\./|/)?(?:usr/)?lib/modules/(\d+\.\d[^/]*)(/)?")
"""A release begins with VERSION.PATCHLEVEL (the kernel's Makefile); other directories do not
count."""
INIT = re.compile(rb"(?:\./|/)?init")
RAM_DISKS = (
    (0, b"-rom1fs-", "romfs"),
    (0, b"\x45\x3d\xcd\x28", "cramfs"),
    (0x200, b"\x45\x3d\xcd\x28", "cramfs"),
    (0, b"hsqs", "squashfs"),
    (0x410, b"\x7f\x13", "minix"),
    (0x410, b"\x8f\x13", "minix"),
    (0x438, b"\x53\xef", "ext2"),
)
"""Offset, magic and name of the file systems that identify_ramdisk_image knows."""
AN_INITRD = "use a cpio archive in the newc format, compressed or not, such as /boot/initrd.img"
COPY_AGAIN = "the file is damaged or incomplete: rebuild it, or copy it again"
TWO_FILES = "kernel and initrd are mixed up: give the kernel as kernel, and its initrd as initrd"


@dataclass(frozen=True, slots=True)
class Fault:
    """`fatal` if no Linux kernel can use the file."""

    what: str
    hint: str
    fatal: bool = True


@dataclass
class Examined:
    """The findings in all files of an initrd."""

    names: list[str] = field(default_factory=list)
    """Names of the files."""
    faults: list[Fault] = field(default_factory=list)
    releases: set[str] = field(default_factory=set)
    """Releases of the kernels whose modules are in it, as far as names were read."""
    has_init: bool = False
    complete: bool = True
    """Whether every name was read."""
    unread: list[str] = field(default_factory=list)
    """Why the names of an archive were not read: a package is missing."""

    def add(self, entry: Entry) -> None:
        if INIT.fullmatch(entry.name):
            self.has_init = True
        found = MODULES.match(entry.name)
        if found and (found[2] or stat.S_ISDIR(entry.mode)) and len(self.releases) < MAX_RELEASES:
            self.releases.add(found[1].decode(errors="backslashreplace"))


def examine(initrd: Contents, wanted: str | None) -> Examined:
    """`wanted` is the release of the kernel: names are read until its modules are found; without
    it, none are read. Raises UnreadableFile."""
    found = Examined()
    for file in files_of(initrd):
        if str(file.path) not in found.names:  # all sections of a UKI are in one file
            found.names.append(str(file.path))
        _examine_file(file, wanted, found)
    return found


def files_of(contents: Contents) -> Iterator[OpenFile]:
    """The files that it consists of, without padding."""
    match contents:
        case DigestAhead():
            yield from files_of(contents.contents)
        case Joined():
            for part in contents.parts:
                yield from files_of(part)
        case FileSpan():
            yield InnerFile(contents.file, contents.offset, contents.size)


def _examine_file(file: OpenFile, wanted: str | None, found: Examined) -> None:
    at, archives = 0, 0
    try:
        while (at := after_padding(file, at)) < file.size:
            head = file.read(at, min(HEAD_SIZE, file.size - at))
            codec = codec_of(head)
            if head.startswith(NEWC_MAGICS):
                at = _plain_archive(file, at, found)
            elif codec:
                _examine_stream(file, at, codec, wanted, found)
                return
            elif archives and not any(head):
                return
            else:
                break
            archives += 1
    except NotAnInitrd as error:
        found.faults.append(Fault(error.message, COPY_AGAIN))
        return
    if at < file.size or not archives:
        found.complete = False
        found.faults.append(_rest_of(file, at) if archives else _foreign(file))


def _plain_archive(file: OpenFile, at: int, found: Examined) -> int:
    """Check an uncompressed archive, and return its end. Every header is read; contents are
    skipped."""
    for entry, end in file_entries(file, at):
        found.add(entry)
        at = end
    return at


def _examine_stream(
    file: OpenFile, at: int, codec: Codec, wanted: str | None, found: Examined
) -> None:
    """A compressed archive, which is assumed to be the last one."""
    if codec.magic == LZ4_FRAME_MAGIC:
        what = f"{file.path}: compressed in the lz4 frame format, which the kernel cannot unpack"
        found.faults.append(
            Fault(what, "compress it with lz4 -l, the legacy format that the kernel unpacks")
        )
        return
    where = f"{file.path}: in the {codec.name} stream at {at:#x}"
    stream = Stream(unpacked(str(file.path), file.span(at, file.size - at), codec, MAX_UNPACKED))
    try:
        head = stream.read(0, HEAD)
        if not head.startswith(NEWC_MAGICS):
            found.complete = False
            found.faults.append(_of_head(head, f"{file.path}, unpacked ({codec.name})"))
            return
        if _read_names(stream, where, wanted, found):
            return
        found.complete = False
        if ends_well(file, at, codec) is False:
            for _ in stream.pieces:  # to the end, or to the first error
                pass
    except (BadCompression, NotAnInitrd) as error:
        found.complete = False
        found.faults.append(Fault(error.message, COPY_AGAIN))
    except NotSupported as error:  # its blocks can be checked, but not their contents
        found.complete = False
        found.unread.append(error.message)
        if ends_well(file, at, codec) is False:
            what = f"{file.path}: the {codec.name} stream at {at:#x} ends early"
            found.faults.append(Fault(what, COPY_AGAIN))


def _read_names(stream: Stream, where: str, wanted: str | None, found: Examined) -> bool:
    """Whether all names of the stream were read: False if reading ended because the release was
    found, or after MAX_SCANNED bytes."""
    for entry in stream_entries(stream, where):
        found.add(entry)
        if wanted is None or wanted in found.releases or stream.end > MAX_SCANNED:
            return False
    return True


def _rest_of(file: OpenFile, at: int) -> Fault:
    """Data after the last archive: the kernel prints an error, and keeps the archives."""
    what = f"{file.path}: the data after the archives at {at:#x} is neither cpio nor compressed"
    return Fault(what, "the kernel ignores it", fatal=False)


def _foreign(file: OpenFile) -> Fault:
    return _of_head(file.read(0, min(HEAD, file.size)), str(file.path))


def _of_head(head: bytes, name: str) -> Fault:
    """The fault of a file that is not an archive, by its first HEAD bytes."""
    for at, magic, system in RAM_DISKS:
        if head.startswith(magic, at):
            what = f"{name}: a file system image ({system}), which the kernel uses as a RAM"
            needs = f"the kernel needs CONFIG_BLK_DEV_RAM, {system} built in, and root=/dev/ram0"
            return Fault(f"{what} disk and not as an initramfs", needs, fatal=False)
    if not any(head):
        return Fault(f"{name}: begins with nothing but zeros", AN_INITRD, fatal=False)
    known = identity_of(head)
    if known is None:
        what = f"{name}: not recognized as an initrd: neither cpio nor compressed"
        return Fault(what, AN_INITRD, fatal=False)
    hint = TWO_FILES if known.role is Role.KERNEL else AN_INITRD
    return Fault(f"{name}: not an initrd but {known.what}", hint)
