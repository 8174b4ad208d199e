"""The initrd of the capture kernel, one for each installed kernel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from pykexec.backends.setup.step import Step
from pykexec.errors import NotSupported
from pykexec.flows.setup.change import BY, DAEMON_RELOAD, changes
from pykexec.host.file_state import file_with
from pykexec.host.setup_facts import INITRD_DROP_IN, STATE, SetupFacts
from pykexec.machine import NEEDS_ROOT, Machine, known

if TYPE_CHECKING:
    from pykexec.backends.setup.step import Command

DROP_IN = f"""{BY}# The initrd that make-initrd makes; %v is the release of the running kernel.
[Service]
Environment=INITRD={STATE}/initrd.img-%v
"""


DRACUT_MODULE = "/usr/lib/dracut/modules.d/90pykexec"


class NoInitrdGenerator(NotSupported):
    """There is no program that makes the initrd of the capture kernel."""

    code = "no-initrd-generator"


class NoKernelImage(NotSupported):
    """The image of the running kernel is not in /boot."""

    code = "no-kernel-image"


def steps(machine: Machine, facts: SetupFacts, values: Mapping[str, str]) -> Iterator[Step]:
    """Yield a step, unless the configuration names another initrd. Raises NoInitrdGenerator,
    NoKernelImage, NotChangeable, NotSupported."""
    release = known(machine.release, "the release of the running kernel", NEEDS_ROOT)
    if release not in facts.kernels and not values.get("KERNEL"):
        raise NoKernelImage(
            f"/boot/vmlinuz-{release}: not found, or there are no modules for it",
            hint="install the package of the running kernel, or set KERNEL= in /etc/pykexec.conf",
        )
    if values.get("INITRD"):
        return
    missing = sorted({release, *facts.kernels} - facts.initrds)
    drop_in = changes(facts, {INITRD_DROP_IN: file_with(DROP_IN)})
    if not missing and not drop_in:
        return
    yield Step(
        "initrd",
        f"make the initrd of the capture kernel, {STATE}/initrd.img-VERSION",
        drop_in,
        before=tuple(("sh", _script(facts), item) for item in missing),
        after=(DAEMON_RELOAD,),
        undo_after=(DAEMON_RELOAD, *_cleaning(facts)),
    )


def _cleaning(facts: SetupFacts) -> tuple[Command, ...]:
    """The script removes its module of dracut again, unless it is killed."""
    return () if "mkinitramfs" in facts.programs else (("rm", "-rf", DRACUT_MODULE),)


def _script(facts: SetupFacts) -> str:
    if facts.make_initrd is None:
        raise NoInitrdGenerator(
            "share/pykexec/capture/make-initrd: not found",
            hint="install pykexec as a package, with pip, or as a single file",
        )
    if not facts.programs & {"mkinitramfs", "dracut"}:
        raise NoInitrdGenerator(
            "neither initramfs-tools nor dracut, which make the initrd of a capture kernel, is "
            "installed",
            hint="install one of them, or set INITRD= in /etc/pykexec.conf",
        )
    return facts.make_initrd
