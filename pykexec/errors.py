"""The one error that a user meets: a line, a remedy, and the facts as values."""

from __future__ import annotations


class KexecError(Exception):
    """One lower-case line that names the thing; `hint` is the remedy.

    `code` is the stable name in JSON, `exit_status` what the shell sees
    (the table is in the man page). Facts given by keyword are attributes.
    """

    code = "failed"
    exit_status = 1
    usual_hint: str | None = None
    """Of a class whose faults have one remedy; a `hint` that is given goes before."""

    def __init__(self, message: str, *, hint: str | None = None, **facts: object) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.usual_hint
        self.facts = facts

    def __getattr__(self, name: str) -> object:
        try:
            return self.__dict__["facts"][name]
        except KeyError:
            raise AttributeError(name) from None


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
