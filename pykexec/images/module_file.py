"""The file of a multiboot module, as the image gets it: a compressed one is unpacked, as by GRUB
and kexec-tools (slurp_decompress_file in kexec-multiboot-x86.c and kexec-mb2-x86.c).
"""

from __future__ import annotations

from pykexec.errors import UsageError
from pykexec.images.compression import file_codec, unpack
from pykexec.images.contents import Contents, OpenFile
from pykexec.remedies import Use, Wish


def module_contents(line: str) -> Contents:
    """The bytes of the file named at the beginning of a module's string "FILE ARGS". Raises
    UsageError without a name, UnreadableFile, BadCompression, MissingCodec."""
    name = line.split(" ", 1)[0]
    if not name:
        raise UsageError(
            f"module {line!r} does not begin with a file name",
            hint=Use(Wish.MODULE, '"FILE ARGS"'),
        )
    file = OpenFile(name)
    codec = file_codec(file)
    if codec:
        file = unpack(file, codec)
    return file.span(0, file.size)
