"""What an image itself provides (a UKI has its own initrd and command line), and the user's
options, which override it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pykexec.images.kernel_image import LinuxArm64Boot

if TYPE_CHECKING:
    from pykexec.images.kernel_image import KernelImage
    from pykexec.placement.request import LoadRequest


def with_implied(image: KernelImage, request: LoadRequest) -> LoadRequest:
    """The request, completed with what only the image provides. Idempotent."""
    implied = image.implied
    initrd = request.initrd or implied.initrd
    own = request.append or request.reuse_cmdline or implied.cmdline is None
    append = request.append if own else (implied.cmdline or "",)
    dtb = request.dtb
    if dtb is None and isinstance(image.boot, LinuxArm64Boot):
        dtb = implied.dtb
    return replace(request, initrd=initrd, append=append, dtb=dtb)


def implied_notes(image: KernelImage, request: LoadRequest) -> tuple[str, ...]:
    """Notes about what was used, one sentence each; `request` is the completed one."""
    implied = image.implied
    notes = []
    if image.profile is not None and len(image.profiles) > 1:
        notes.append(f"using profile {image.profiles[image.profile]} of the {image.type}")
    if implied.initrd:
        inside = request.initrd is implied.initrd
        notes.append(
            f"using the initrd inside the {image.type}"
            if inside
            else f"the initrd inside the {image.type} is replaced"
        )
    if implied.cmdline is not None:
        inside = request.append == (implied.cmdline,) and not request.reuse_cmdline
        notes.append(
            f"using the command line inside the {image.type}"
            if inside
            else f"the command line inside the {image.type} is replaced: {implied.cmdline!r}"
        )
    if implied.dtb and not isinstance(image.boot, LinuxArm64Boot):
        notes.append(f"ignoring the .dtb inside the {image.type}: x86 does not use it")
    elif implied.dtb:
        inside = request.dtb is implied.dtb
        notes.append(
            f"using the device tree inside the {image.type}"
            if inside
            else f"the device tree inside the {image.type} is replaced"
        )
    return tuple(notes)
