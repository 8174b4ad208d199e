"""The base class of all errors shown to users: a message, a remedy, and the facts as values."""

from __future__ import annotations

TYPE_CHECKING = False  # not from typing: `pykexec-vmcore-dmesg` must start quickly
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pykexec.remedies import Advice, Terms


def printable(text: str) -> str:
    """Text as one line that is safe for a terminal: control characters are escaped."""
    return "".join(c if c.isprintable() else escaped(c) for c in text)


def escaped(char: str) -> str:
    r"""The escape of a character; a byte that was not UTF-8 (os.fsdecode) becomes \xNN."""
    byte = ord(char) - 0xDC00
    return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else ascii(char)[1:-1]


class KexecError(Exception):
    """One line in lower case that names the object; `remedy` is what would help, and `hint` the
    same in the names of the Python interface.

    Both may quote text from a file: control characters are escaped here, for all messages.
    `details` are further lines, which are shown with -v and in JSON. `code` is the stable name in
    JSON, `exit_status` the exit status of the program (the table is in the man page). Facts given
    by keyword are attributes. `path` is the file that the error is about, "" for none; it is in
    the message, and not among the facts.
    """

    code = "failed"
    exit_status = 1
    usual_hint: Advice | None = None
    """The remedy for all errors of a class; a `hint` argument takes precedence."""

    def __init__(
        self,
        message: str,
        *,
        hint: Advice | None = None,
        details: Sequence[str] = (),
        **facts: object,
    ) -> None:
        self.message = printable(message)
        super().__init__(self.message)
        self.remedy = hint or self.usual_hint
        self.path = str(facts.pop("path", ""))
        self.details = tuple(map(printable, details))
        self.facts = facts

    @property
    def hint(self) -> str | None:
        return printable(str(self.remedy)) if self.remedy else None

    def hint_in(self, terms: Terms) -> str | None:
        """The remedy as a program words it that has these words for wishes."""
        from pykexec.remedies import advised

        return printable(advised(self.remedy, terms)) if self.remedy else None

    def __getattr__(self, name: str) -> object:
        try:
            return self.__dict__["facts"][name]
        except KeyError:
            raise AttributeError(name) from None

    def put_first(self, name: str) -> None:
        """Begin the message with the name of the file or object that it is about."""
        self.message = printable(f"{name}: ") + self.message
        self.args = (self.message,)


class UsageError(KexecError):
    """The request is invalid on any machine."""

    code = "usage"
    exit_status = 2


class CheckFailed(KexecError):
    """Everything worked, and a check found a problem."""

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
