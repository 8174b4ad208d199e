"""State that pykexec keeps about its own loads: one document per file, replaced atomically. It
disappears at a reboot, like the images."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from pykexec.documents.base import Document
from pykexec.errors import KexecError, NotPermitted

STATE_MAX = 64 << 20
"""Limit in bytes."""

T = TypeVar("T")
D = TypeVar("D", bound=Document)


class StateFile(Generic[T, D]):
    """A value, or none, as a document of type D. Subclasses convert between them."""

    name: ClassVar[str]
    kind: type[D]
    older: ClassVar[dict[str, object]] = {}
    """Keys that files of an older pykexec lack, with their values for that case."""
    bad: ClassVar[type[KexecError]]
    what: ClassVar[str]
    """What the file is, for the message of `bad`."""
    remedy: ClassVar[str]

    def __init__(self, folder: Path) -> None:
        self.path = folder / self.name

    def encode(self, value: T) -> D:
        raise NotImplementedError

    def decode(self, found: D) -> T:
        """Raises ValueError, KexecError for contents that `encode` does not write."""
        raise NotImplementedError

    def write(self, value: T) -> None:
        from pykexec.documents.codec import plain

        new = self.path.with_suffix(".new")
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            json.dump(plain(self.encode(value)), file)
        os.replace(new, self.path)

    def read(self) -> T | None:
        """The value, or None without a file. Raises NotPermitted, and `bad` for foreign
        contents."""
        try:
            with open(self.path, "rb") as file:
                raw = file.read(STATE_MAX)
        except FileNotFoundError:
            return None
        except PermissionError as error:
            raise NotPermitted(f"{self.path}: permission denied", hint="run as root") from error
        except OSError as error:
            raise self.bad(f"{self.path}: {error.strerror}".lower()) from error
        from pykexec.documents.codec import decode

        try:
            found = json.loads(raw)
            if not isinstance(found, dict) or found.get("schema") != self.kind.schema:
                raise ValueError(f"its schema is not {self.kind.schema}")
            return self.decode(decode(self.kind, self.older | found))
        except (ValueError, RecursionError, KexecError) as error:
            raise self.bad(
                f"{self.path}: not a {self.what} of pykexec", hint=self.remedy
            ) from error

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.path.with_suffix(".new").unlink(missing_ok=True)
