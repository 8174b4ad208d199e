"""`pykexec-vmcore-dmesg`: the command line, output and exit statuses of kexec-tools'
vmcore-dmesg, for every format that pykexec reads.

It is not in `cli` because that imports typing, which would take half of its time.
"""

from __future__ import annotations

import os
import sys

from pykexec.dump.faults import NotADump, UnknownKernel, UnreadableDump
from pykexec.dump.log import records
from pykexec.dump.log_text import escaped_as_kexec_tools
from pykexec.dump.reader import open_dump
from pykexec.errors import KexecError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pykexec.dump.reader import Dump

NAME = "pykexec-vmcore-dmesg"
HELP = f"""\
Usage: {NAME} FILE

Print the log of the kernel that crashed, from /proc/vmcore or the dump FILE, in the format of
vmcore-dmesg(8). pykexec vmcore dmesg has more options.
"""
USAGE, NOT_OPENED, NO_DUMP, NO_LOG, NOT_READ, NOT_WRITTEN = 1, 2, 4, 50, 65, 54
"""Exit statuses of vmcore-dmesg, which has more for NO_LOG (50 to 67) and NOT_READ."""
INTERRUPTED, CLOSED_PIPE = 130, 141
BUFFER = 64 << 10
STDOUT, STDERR = 1, 2


def main() -> None:
    """Run the program, and end the process."""
    try:
        sys.exit(run(sys.argv[1:]))
    except KeyboardInterrupt:
        _complain("interrupted")
        sys.exit(INTERRUPTED)


def run(words: list[str]) -> int:
    """The exit status."""
    if words in (["-h"], ["--help"]):
        return _write_help()
    if len(words) != 1:
        _complain(f"usage: {NAME} <kernel core file>", named=False)
        return USAGE
    try:
        _write_log(open_dump(words[0]))
    except KexecError as error:
        _complain(error.message)
        statuses = {NotADump: NO_DUMP, UnknownKernel: NO_LOG, UnreadableDump: NOT_OPENED}
        return statuses.get(type(error), NOT_READ)
    except BrokenPipeError:
        return CLOSED_PIPE
    except OSError as error:
        _complain(f"cannot write the log: {error.strerror}")
        return NOT_WRITTEN
    return 0


def _write_help() -> int:
    try:
        write(STDOUT, HELP.encode())
    except BrokenPipeError:
        return CLOSED_PIPE
    except OSError as error:
        _complain(f"cannot write the help: {error.strerror}")
        return NOT_WRITTEN
    return 0


def _write_log(dump: Dump) -> None:
    """Write every record as vmcore-dmesg does: with one timestamp, however many lines it has.
    Records before any damage are written too."""
    lines: list[bytes] = []
    size, plain = 0, False
    try:
        for record in records(dump):
            line = record.stamp + record.text
            lines.append(line)
            size += len(line)
            plain = record.nanoseconds is None
            if size > BUFFER:
                ready, lines, size = lines, [], 0
                _write_lines(ready, plain)
    finally:
        _write_lines(lines, plain)


def _write_lines(lines: list[bytes], plain: bool) -> None:
    """Escape control characters, except in the plain buffer, which vmcore-dmesg copies."""
    text = b"\n".join([*lines, b""])
    write(STDOUT, text if plain else escaped_as_kexec_tools(text))


def write(fd: int, data: bytes) -> None:
    """Write all of it."""
    while data:
        data = data[os.write(fd, data) :]


def _complain(text: str, named: bool = True) -> None:
    """Print a line on standard error; ignore it if that fails."""
    line = printable(f"{NAME}: {text}" if named else text) + "\n"
    try:
        write(STDERR, line.encode("utf-8", "backslashreplace"))
    except OSError:
        return
