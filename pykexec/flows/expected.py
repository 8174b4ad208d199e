"""What a crash by normal would do on a machine with an unmodified kernel, from facts only.

Only the load itself finds out whether it gets the memory for a mode.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.backends.kernel.modes import choose_modes, mode_warnings
from pykexec.backends.kernel.region import with_expected_region
from pykexec.flows.checked_plan import CheckedPlan, decide
from pykexec.frozen import dataclass
from pykexec.placement.granted import Granted
from pykexec.placement.lending import NoMovableMemory
from pykexec.placement.panic_modes import assumed_window
from pykexec.placement.plan import CapturePlan, InitrdVerdict, PanicPlan
from pykexec.placement.request import PANIC_MODES, LoadRequest
from pykexec.placement.syscall_choice import choose_syscall

if TYPE_CHECKING:
    from pykexec.images.kernel_image import KernelImage
    from pykexec.machine import Machine
    from pykexec.placement.syscall_choice import Syscall, SyscallChoice


@dataclass(frozen=True)
class Prospect:
    """What a load settles before it reads an image: `machine` has the crash region that it would
    make, if `makes_region`."""

    machine: Machine
    makes_region: bool
    syscall: SyscallChoice


@dataclass(frozen=True)
class Expected:
    """The expected decisions of a load."""

    prospect: Prospect
    granted: Granted
    planned: CheckedPlan

    @property
    def window_size(self) -> int:
        """Bytes of memory of the capture kernel."""
        plan = self.planned.plan
        return plan.window.size if isinstance(plan, CapturePlan) else 0

    @property
    def held(self) -> int:
        """Bytes of huge pages that are in use while the machine is armed."""
        plan = self.planned.plan
        return plan.stage.ours.size if isinstance(plan, PanicPlan) else self.window_size


def _expected_grant(image: KernelImage, machine: Machine, request: LoadRequest) -> Granted:
    """The mode that a load would try first. It does not try to take huge pages, or to make memory
    movable. Raises NoMode, NoMovableMemory."""
    choice = choose_modes(machine, request.mode, request.keep)
    mode, *others = choice.modes
    lacking, movable = choice.lacking, False
    if mode in PANIC_MODES:
        try:
            _, movable = assumed_window(image, machine, request, mode)
        except NoMovableMemory as error:
            if not others:
                raise
            lacking, mode = (*lacking, (mode, error.message)), others[0]
    return Granted(mode, choice.why(mode), lacking, mode_warnings(mode, machine, movable))


def prospect(
    found: Machine,
    request: LoadRequest,
    *,
    region: bool = True,
    syscall: Syscall | None = None,
    image_type: str | None = None,
) -> Prospect:
    """The region, unless `region` is false, and the system call: `syscall` if the user chose it.
    Raises the error with which a load would be refused."""
    machine = with_expected_region(found, request.mode) if region else found
    choice = choose_syscall(machine, request, syscall, image_type)
    return Prospect(machine, machine is not found, choice)


def expected_load(
    image: KernelImage, before: Prospect, request: LoadRequest, initrd: InitrdVerdict
) -> Expected:
    """`request` is complete (with_implied). Raises the error with which a load would be refused."""
    granted = _expected_grant(image, before.machine, request)
    return Expected(before, granted, decide(image, before.machine, request, granted, initrd))
