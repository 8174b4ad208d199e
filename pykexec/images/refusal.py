"""Why a file is not loaded, in one line: what it is, if that is known, or what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pykexec.frozen import dataclass
from pykexec.images.kernel_image import NotAnImage, Refused, UnservedImage
from pykexec.images.what_is_it import A_KERNEL, Role, what_is_it
from pykexec.remedies import Omit, Use, Wish, and_also, saying

if TYPE_CHECKING:
    from pykexec.errors import KexecError
    from pykexec.images.contents import OpenFile

DAMAGED = saying("the file is damaged, or of another type (", Wish.TYPE, ")")
DETECT = Omit(Wish.TYPE, rest=" to detect the type")
REASONS = Use(Wish.VERBOSE, rest=" to see why it is not of any known type")


@dataclass(frozen=True, slots=True)
class Tried:
    """An image type, and why the file is not of that type."""

    type: str
    refused: Refused


def refusal(file: OpenFile, tried: Sequence[Tried], packed: tuple[str, ...] = ()) -> KexecError:
    """The error for a file that no type accepted; `tried` ends with the type that came closest, if
    any. `packed` names the containers around the file."""
    last = tried[-1]
    kind, why, hint = last.type, last.refused.why, last.refused.hint
    details = tuple(f"{item.type}: {item.refused.why}" for item in tried)
    inside = f" (inside {', '.join(packed)})" if packed else ""
    if last.refused.unserved:
        message = f"{file.path}: this {kind} image{inside} cannot be loaded: {why}"
        return UnservedImage(message, hint=hint, path=str(file.path), details=details, type=kind)
    known = what_is_it(file)
    if known and known.role is not Role.KERNEL:
        message = f"{file.path}: not a kernel image: it is {known.what}{inside}"
        return NotAnImage(message, hint=known.hint, path=str(file.path), details=details)
    if last.refused.close or len(tried) == 1:
        article = "an" if kind[0] in "ae" else "a"
        message = f"{file.path}: not {article} {kind}{inside}: {why}"
        hint = hint or (DAMAGED if last.refused.close else DETECT)
        return NotAnImage(message, hint=hint, path=str(file.path), details=details, type=kind)
    message = f"{file.path}: not a kernel image of any known type{inside}"
    if known:
        message = f"{file.path}: looks like {known.what}, but matches no known type{inside}"
        return NotAnImage(
            message, hint=and_also(known.hint, REASONS), path=str(file.path), details=details
        )
    return NotAnImage(
        message, hint=and_also(A_KERNEL, REASONS), path=str(file.path), details=details
    )
