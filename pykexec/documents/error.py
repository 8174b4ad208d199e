"""pykexec.error/1."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from pykexec.documents.base import Text

CODE = Text(
    "^([a-z0-9-]+|E[A-Z0-9]+)$",
    "a name of pykexec's own, or the errno that the kernel returned",
)


@dataclass(frozen=True, slots=True)
class Reason:
    """what is wrong, and what would help"""

    code: Annotated[str, CODE]
    message: str
    hint: str | None
    details: tuple[str, ...] = ()
    more: dict[str, Any] = field(default_factory=dict)
    """further keys: the facts of this error"""

    def __post_serialize__(self, found: dict[str, Any]) -> dict[str, Any]:
        more: dict[str, Any] = found.pop("more", {})
        return found | more


@dataclass(frozen=True, slots=True)
class ErrorDocument:
    """why nothing was done; facts follow the three fields"""

    schema: ClassVar[str] = "pykexec.error/1"
    error: Reason
