"""Log lines for output: safe on a terminal, or as kexec-tools writes them."""

from __future__ import annotations

PRINTABLE = bytes(range(0x20, 0x7F))
SPACES = b"\t\n\v\f\r"


def safe(line: bytes) -> str:
    r"""A line as dmesg(1) shows it: UTF-8 stays; control characters except the tab, and bytes that
    are not UTF-8, become \\xNN."""
    text = line.decode("utf-8", "backslashreplace")
    if line.isascii() and not line.translate(None, PRINTABLE + b"\t"):
        return text
    return "".join(c if c.isprintable() or c == "\t" else _escaped(c) for c in text)


def _escaped(char: str) -> str:
    r"""The UTF-8 bytes of a character as \\xNN."""
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogatepass"))


def escaped_as_kexec_tools(text: bytes) -> bytes:
    r"""Text as util_lib/elf_info.c of kexec-tools writes it: what is neither isprint() nor
    isspace() in the C locale becomes \xNN."""
    if not text.translate(None, PRINTABLE + SPACES):
        return text
    return b"\n".join(map(_escaped_line, text.split(b"\n")))


def _escaped_line(line: bytes) -> bytes:
    if not line.translate(None, PRINTABLE + SPACES):
        return line
    return b"".join(
        bytes((byte,)) if byte in PRINTABLE or byte in SPACES else b"\\x%02x" % byte
        for byte in line
    )
