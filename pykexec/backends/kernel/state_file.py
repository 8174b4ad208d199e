"""What pykexec keeps of its own loads: one JSON object a file, replaced as a whole. Gone with a
reboot, as the images are."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from pykexec.errors import KexecError, NotPermitted

STATE_MAX = 64 << 20
"""Bytes that are read at most."""

T = TypeVar("T")


class StateFile(Generic[T]):
    """A value, or none. Subclasses say how it is written, and what is wrong with anything else."""

    name: ClassVar[str]
    schema: ClassVar[str]
    bad: ClassVar[type[KexecError]]
    what: ClassVar[str]
    """In the message of `bad`."""
    remedy: ClassVar[str]

    def __init__(self, folder: Path) -> None:
        self.path = folder / self.name

    def encode(self, value: T) -> dict[str, object]:
        raise NotImplementedError

    def decode(self, found: dict[str, Any]) -> T:
        """Raises anything for what `encode` does not write."""
        raise NotImplementedError

    def write(self, value: T) -> None:
        new = self.path.with_suffix(".new")
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            json.dump({"schema": self.schema, **self.encode(value)}, file)
        os.replace(new, self.path)

    def read(self) -> T | None:
        """None without one. Raises NotPermitted, and `bad` for what was not written here."""
        try:
            with open(self.path, "rb") as file:
                raw = file.read(STATE_MAX)
        except FileNotFoundError:
            return None
        except PermissionError as error:
            raise NotPermitted(f"{self.path}: permission denied", hint="run as root") from error
        except OSError as error:
            raise self.bad(f"{self.path}: {error.strerror}".lower()) from error
        try:
            found = json.loads(raw)
            if found["schema"] != self.schema:
                raise ValueError(found["schema"])
            return self.decode(found)
        except (ValueError, TypeError, KeyError, RecursionError, KexecError) as error:
            raise self.bad(
                f"{self.path}: not a {self.what} of pykexec", hint=self.remedy
            ) from error

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.path.with_suffix(".new").unlink(missing_ok=True)


def whole(value: object) -> int:
    """A number that is neither a truth value nor a fraction."""
    if type(value) is not int:
        raise TypeError(value)
    return value
