"""The boot protocol of arm64."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.frozen import dataclass
from pykexec.images.kernel_image import LinuxArm64Boot
from pykexec.memory.ranges import RangeSet
from pykexec.placement.arm64 import layout, linux, moved, pools, processors, reservation, stub
from pykexec.placement.arm64.device_tree import Capture, DeviceTreeInformation, information_for
from pykexec.placement.cmdline import CAPTURE_WORDS
from pykexec.placement.foreign import foreign

if TYPE_CHECKING:
    from pykexec.arch import Arch
    from pykexec.images.kernel_image import KernelImage
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

NO_CMA = "cma=0"
"""A capture kernel has too little memory for the CMA area of its configuration: Debian's 64 MiB
made one with 192 MiB panic."""


@dataclass(frozen=True, slots=True)
class Arm64Protocol:
    """See `boot_protocol.BootProtocol` for the purpose of each method."""

    arch: Arch

    @property
    def limits(self) -> Limits:
        return layout.limits_of(self.arch)

    def encryption(self, machine: Machine) -> Encryption | Unknown | None:
        """None: realms (Arm CCA) are not recognized."""
        return None

    def refuse(self, image: KernelImage, machine: Machine, request: LoadRequest) -> None:
        """Raises ForeignArchitecture, UsageError, NotSupported, also for an unknown page size."""
        if not isinstance(image.boot, LinuxArm64Boot):
            why = f"it is of type {image.type}, which arm64 cannot run"
            raise foreign(image, why, "use a kernel for arm64")
        linux.refuse(machine.known_arch, image, machine, request)

    def plan_normal(
        self, image: KernelImage, machine: Machine, request: LoadRequest, granted: Granted
    ) -> NormalPlan:
        return linux.plan_linux(self, image, machine, request, granted)

    def capture_words(self, headers_at: int | None) -> tuple[str, ...]:
        return (NO_CMA,)

    @property
    def usual_words(self) -> tuple[str, ...]:
        return CAPTURE_WORDS

    def boot_information(
        self,
        image: KernelImage,
        machine: Machine,
        request: LoadRequest,
        rng_seed: bytes,
        line: CommandLine,
        memory: CaptureMemory,
    ) -> DeviceTreeInformation:
        """The kernel reads the ELF core headers through its own memory, and reserves them there
        (drivers/of/fdt.c:fdt_reserve_elfcorehdr)."""
        image.linux_for(LinuxArm64Boot)
        usable = memory.ram | RangeSet((memory.headers,))
        capture = Capture(usable.ranges[::-1], memory.headers, memory.copies)
        return information_for(machine, request, line, memory.map, rng_seed, capture)

    def place(
        self, space: Space, image: KernelImage, request: LoadRequest, information: BootInformation
    ) -> BootPlaces:
        return linux.place(space, image, request, information)

    def placed(
        self,
        image: KernelImage,
        request: LoadRequest,
        boot: BootPlaces,
        information: BootInformation,
    ) -> tuple[Placed, ...]:
        return linux.placed(image, request, boot, information)

    def refuse_window(self, window: PhysRange, image: KernelImage) -> None:
        """Every window is suitable."""

    def pools(self, machine: Machine, request: LoadRequest) -> tuple[Term, ...]:
        return pools.pools(machine, request)

    def capture_warnings(
        self, machine: Machine, request: LoadRequest, line: CommandLine
    ) -> tuple[str, ...]:
        return processors.stuck_warnings(machine, line)

    def moved_warnings(self, machine: Machine) -> tuple[str, ...]:
        return moved.moved_warnings(machine)

    def stub_size(self, machine: Machine, n_regions: int, n_exchanges: int = 0) -> int:
        return stub.stub_memsz(machine, n_regions, n_exchanges)

    def encode_stub(self, job: StubJob, machine: Machine, at: int) -> bytes:
        return stub.encode_stub(job, machine, at)

    def reservation_need(self, machine: Machine, stub_size: int) -> int:
        return reservation.reservation_need(self.arch, stub_size)
