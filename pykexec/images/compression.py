"""Compressed files, unpacked.

Nothing in a header is believed: output ends at a limit, whatever the stream promises. What
is unpacked lies in memory without a name (a memfd), so nothing is left behind.
"""

from __future__ import annotations

import lzma
import os
import zlib
from collections.abc import Iterator

from pykexec.errors import KexecError, NotSupported
from pykexec.images.codecs import HEAD_SIZE, Codec, codec_of
from pykexec.images.contents import Contents, OpenFile, UnreadableFile

MAX_UNPACKED = 1 << 30
"""Bytes that are counted and thrown away; no initrd of a crash kernel comes near."""
MAX_KEPT = 256 << 20
"""Bytes that are kept in memory of one file, all its layers together; a distribution's kernel
has 60 MiB."""


class BadCompression(KexecError):
    """A stream that is damaged, cut off or larger than the limit."""

    code = "bad-compression"


DAMAGED = (zlib.error, lzma.LZMAError, EOFError, ValueError, OSError, RuntimeError, MemoryError)
"""What the decoders raise for a stream that is not right."""


def file_codec(file: OpenFile) -> Codec | None:
    """How the file is compressed, by its first bytes; None for not at all."""
    return codec_of(file.read(0, min(HEAD_SIZE, file.size)))


def unpacked(
    name: str, contents: Contents, codec: Codec, limit: int = MAX_UNPACKED
) -> Iterator[bytes]:
    """The pieces of what is inside. Raises BadCompression, MissingCodec, NotSupported; `name`
    stands in front."""
    done = 0
    try:
        for piece in codec.unpack(contents.chunks()):
            done += len(piece)
            if done > limit:
                raise BadCompression(
                    f"{name}: {codec.name} unpacks to more than {limit:#x} bytes",
                    hint="unpack it, and use the unpacked file",
                    limit=limit,
                )
            yield piece
    except NotSupported as error:
        error.put_first(name)
        raise
    except (KexecError, UnreadableFile):
        raise
    except DAMAGED as error:
        why = "it ends early" if isinstance(error, EOFError) else str(error) or "damaged"
        raise BadCompression(
            f"{name}: cannot unpack {codec.name}: {why}",
            hint="the file is damaged or incomplete",
            at=done,
        ) from error


def unpack(file: OpenFile, codec: Codec, limit: int = MAX_KEPT) -> OpenFile:
    """All of `file`, unpacked into memory without a name."""
    name = str(file.path)
    found = spooled(name, unpacked(name, file.span(0, file.size), codec, limit))
    file.require_unchanged()  # the end may have gone unread
    return found


def spooled(name: str, pieces: Iterator[bytes]) -> OpenFile:
    """A file without a name that holds the pieces; it goes away with the last reference."""
    fd = unnamed_file()
    try:
        with open(fd, "wb", closefd=False) as out:
            for piece in pieces:
                out.write(piece)
        return OpenFile.of_descriptor(fd, name)
    except OSError as error:
        os.close(fd)
        raise UnreadableFile(
            f"{name}: cannot be unpacked for lack of space: {error.strerror}",
            hint="free some memory, or use the unpacked file",
        ) from error
    except BaseException:
        os.close(fd)
        raise


def unnamed_file() -> int:
    """A descriptor of memory; of an unlinked temporary file where there is no memfd."""
    try:
        return os.memfd_create("pykexec", os.MFD_CLOEXEC)
    except OSError:
        from tempfile import TemporaryFile

        with TemporaryFile() as file:
            return os.dup(file.fileno())
