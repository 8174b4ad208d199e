"""Compressed files, unpacked.

Headers are not trusted: output ends at a limit, whatever size the stream declares. Unpacked data
goes to a memfd, so that no file is left behind.
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
"""Bytes to unpack for counting only; the initrd of a crash kernel is far smaller."""
MAX_KEPT = 256 << 20
"""Bytes to keep in memory for one file, all its layers together; a distribution's kernel has 60
MiB."""


class BadCompression(KexecError):
    """A stream that is damaged, truncated or larger than the limit."""

    code = "bad-compression"


DAMAGED = (zlib.error, lzma.LZMAError, EOFError, ValueError, OSError, RuntimeError, MemoryError)
"""What the decoders raise for an invalid stream."""


def file_codec(file: OpenFile) -> Codec | None:
    """The compression of a file, by its first bytes; None if it is not compressed."""
    return codec_of(file.read(0, min(HEAD_SIZE, file.size)))


def unpacked(
    name: str, contents: Contents, codec: Codec, limit: int = MAX_UNPACKED
) -> Iterator[bytes]:
    """The unpacked data, in pieces. Raises BadCompression, MissingCodec, NotSupported, with
    messages that begin with `name`."""
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
    """All of `file`, unpacked into an unnamed file in memory."""
    name = str(file.path)
    found = spooled(name, unpacked(name, file.span(0, file.size), codec, limit))
    file.require_unchanged()  # the end may not have been read
    return found


def spooled(name: str, pieces: Iterator[bytes]) -> OpenFile:
    """An unnamed file that holds the pieces; it is freed with the last reference."""
    fd = _unnamed_file()
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
            path=name,
        ) from error
    except BaseException:
        os.close(fd)
        raise


def _unnamed_file() -> int:
    """The descriptor of a memfd, or of an unlinked temporary file if memfd is not available."""
    try:
        return os.memfd_create("pykexec", os.MFD_CLOEXEC)
    except OSError:
        from tempfile import TemporaryFile

        with TemporaryFile() as file:
            return os.dup(file.fileno())
