"""The one error that a user meets: a line, a remedy, and the facts as values."""

from __future__ import annotations

TYPE_CHECKING = False  # not from typing: `pykexec-vmcore-dmesg` is to start quickly
if TYPE_CHECKING:
    from collections.abc import Sequence


def printable(text: str) -> str:
    """Text as one line that a terminal does not obey: control characters as escapes."""
    return "".join(c if c.isprintable() else escaped(c) for c in text)


def escaped(char: str) -> str:
    r"""A byte that was no UTF-8 (os.fsdecode) as \xNN, for that is what it is."""
    byte = ord(char) - 0xDC00
    return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else ascii(char)[1:-1]


class KexecError(Exception):
    """One lower-case line that names the thing; `hint` is the remedy.

    Both may quote what a file says of itself: control characters are escaped here, once for
    all. `details` are further lines, which are shown with -v and in JSON. `code` is the stable
    name in JSON, `exit_status` what the shell sees (the table is in the man page). Facts given
    by keyword are attributes.
    """

    code = "failed"
    exit_status = 1
    usual_hint: str | None = None
    """Of a class whose faults have one remedy; a `hint` that is given goes before."""

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        details: Sequence[str] = (),
        **facts: object,
    ) -> None:
        self.message = printable(message)
        super().__init__(self.message)
        hint = hint or self.usual_hint
        self.hint = printable(hint) if hint else None
        self.details = tuple(map(printable, details))
        self.facts = facts

    def __getattr__(self, name: str) -> object:
        try:
            return self.__dict__["facts"][name]
        except KeyError:
            raise AttributeError(name) from None

    def put_first(self, name: str) -> None:
        """Begin the message with the name of the file or thing that it is about."""
        self.message = printable(f"{name}: ") + self.message
        self.args = (self.message,)


class UsageError(KexecError):
    """What was asked makes no sense, whatever the machine."""

    code = "usage"
    exit_status = 2


class CheckFailed(KexecError):
    """Everything ran, and a check found a problem."""

    code = "check"
    exit_status = 3


class NotPermitted(KexecError):
    """CAP_SYS_BOOT, lockdown, kexec_load_disabled, a load limit, a signature."""

    code = "not-permitted"
    exit_status = 4


class NotSupported(KexecError):
    """This kernel, or this image, cannot do it."""

    code = "not-supported"
    exit_status = 5


class DoesNotFit(KexecError):
    """A window, a segment table or memory is too small."""

    code = "does-not-fit"
    exit_status = 6


class AnswerLost(KexecError):
    """Standard output cannot be written. What was asked for may have been done all the same."""

    code = "answer-lost"
    usual_hint = "give it a place that can be written"
