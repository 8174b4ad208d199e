"""The boot protocol of x86: for 64-bit hosts, and with another `Arch` for 32-bit ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.errors import NotSupported, UsageError
from pykexec.frozen import dataclass
from pykexec.images.kernel_image import (
    ElfBoot,
    ForeignImage,
    KernelImage,
    Linux32Boot,
    LinuxArm64Boot,
    LinuxX86Boot,
    MultibootBoot,
)
from pykexec.placement.cmdline import CAPTURE_WORDS
from pykexec.placement.foreign import foreign
from pykexec.placement.x86 import layout, reservation, stub
from pykexec.placement.x86.boot_params import BootParams, boot_params_for
from pykexec.placement.x86.encryption import memory_encryption
from pykexec.placement.x86.linux64 import (
    check_window,
    place_boot,
    placed_boot,
    plan_linux_x86_64,
)
from pykexec.remedies import Omit, Use, Wish

if TYPE_CHECKING:
    from pykexec.arch import Arch
    from pykexec.machine import Machine, Unknown
    from pykexec.memory.ranges import PhysRange
    from pykexec.placement.boot_protocol import BootInformation, CaptureMemory
    from pykexec.placement.cmdline import CommandLine
    from pykexec.placement.encryption import Encryption
    from pykexec.placement.estimate import Term
    from pykexec.placement.granted import Granted
    from pykexec.placement.limits import Limits
    from pykexec.placement.plan import BootPlaces, NormalPlan, Placed
    from pykexec.placement.request import LoadRequest
    from pykexec.placement.space import Space
    from pykexec.placement.stub_job import StubJob

WARN_HALTED = (
    "after a panic the other CPUs halt in the first kernel's text: an NMI, SMI or machine check "
    "may reset the machine, because their page tables may be in the window"
)


@dataclass(frozen=True, slots=True)
class X86Protocol:
    """See `boot_protocol.BootProtocol` for the purpose of each method."""

    arch: Arch

    @property
    def limits(self) -> Limits:
        return layout.limits_of(self.arch)

    def encryption(self, machine: Machine) -> Encryption | Unknown | None:
        return memory_encryption(machine)

    def refuse(self, image: KernelImage, machine: Machine, request: LoadRequest) -> None:
        """Raises ForeignArchitecture, NotSupported, UsageError."""
        if isinstance(image.boot, LinuxArm64Boot):
            why = "it is a kernel for arm64, which x86 cannot run"
            raise foreign(image, why, "use a kernel for x86")
        if self.arch.bits == 32 and _is_64_bit(image):
            raise NotSupported(
                f"{image.path} is of type {image.type}, but the running kernel is a 32-bit kernel",
                hint=Use(Wish.TYPE, "bzImage", " to start a bzImage by its 32-bit entry"),
            )
        if request.modules and not isinstance(image.boot, MultibootBoot):
            raise UsageError(
                f"a module has no effect: {image.path} is of type {image.type}",
                hint=Use(Wish.MODULE, rest=" only with multiboot images"),
            )
        if request.dtb is not None:
            raise UsageError(
                "a device tree has no effect: x86 boots without one", hint=Omit(Wish.DTB)
            )
        if request.real_mode:
            from pykexec.placement.x86.real_mode import refuse_real_mode

            refuse_real_mode(image, machine, request)

    def plan_normal(
        self, image: KernelImage, machine: Machine, request: LoadRequest, granted: Granted
    ) -> NormalPlan:
        """Calls the planner for the kind of image."""
        if request.real_mode:
            from pykexec.placement.x86.real_mode import plan_real_mode

            return plan_real_mode(image, machine, request)
        match image.boot:
            case LinuxX86Boot() as boot:
                return plan_linux_x86_64(image, boot, machine, request, granted)
            case Linux32Boot() as boot:
                from pykexec.placement.x86.linux32 import plan_linux_i386

                return plan_linux_i386(image, boot, machine, request, granted)
            case ElfBoot() as boot:
                from pykexec.placement.x86.elf_image import plan_elf

                return plan_elf(image, boot, machine, request)
            case MultibootBoot() as boot:
                from pykexec.placement.x86.multiboot import plan_multiboot

                return plan_multiboot(image, boot, machine, request)
            case ForeignImage() | LinuxArm64Boot():
                raise AssertionError("foreign images are refused before")

    def capture_words(self, headers_at: int | None) -> tuple[str, ...]:
        return () if headers_at is None else (f"elfcorehdr={headers_at:#x}",)

    @property
    def usual_words(self) -> tuple[str, ...]:
        return (*CAPTURE_WORDS, "mce=off")

    def boot_information(
        self,
        image: KernelImage,
        machine: Machine,
        request: LoadRequest,
        rng_seed: bytes,
        line: CommandLine,
        memory: CaptureMemory,
    ) -> BootParams:
        return boot_params_for(image.linux_for(LinuxX86Boot), machine, rng_seed, line, memory.map)

    def place(
        self, space: Space, image: KernelImage, request: LoadRequest, information: BootInformation
    ) -> BootPlaces:
        return place_boot(space, image, request, information.size)

    def placed(
        self,
        image: KernelImage,
        request: LoadRequest,
        boot: BootPlaces,
        information: BootInformation,
    ) -> tuple[Placed, ...]:
        return placed_boot(image, request, boot, information)

    def refuse_window(self, window: PhysRange, image: KernelImage) -> None:
        check_window(window, image.linux_for(LinuxX86Boot))

    def pools(self, machine: Machine, request: LoadRequest) -> tuple[Term, ...]:
        return ()

    def capture_warnings(
        self, machine: Machine, request: LoadRequest, line: CommandLine
    ) -> tuple[str, ...]:
        return ()

    def moved_warnings(self, machine: Machine) -> tuple[str, ...]:
        return (WARN_HALTED,)

    def stub_size(self, machine: Machine, n_regions: int, n_exchanges: int = 0) -> int:
        return stub.stub_memsz(n_regions, n_exchanges)

    def encode_stub(self, job: StubJob, machine: Machine, at: int) -> bytes:
        return stub.encode_stub(job, at)

    def reservation_need(self, machine: Machine, stub_size: int) -> int:
        spans = machine.known_map
        return reservation.reservation_need(spans, machine.cpu_flags, stub_size).size


def _is_64_bit(image: KernelImage) -> bool:
    """Whether it may be placed, or is entered, where a 32-bit kernel cannot reach."""
    boot = image.boot
    return isinstance(boot, LinuxX86Boot) or (isinstance(boot, ElfBoot) and boot.bits == 64)
