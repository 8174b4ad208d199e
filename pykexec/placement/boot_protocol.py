"""The only path from a decision to what an architecture needs to start an image.

Nothing else in `placement/` names an architecture. A protocol is a value, made from that of
`arch/`: a host with another `Arch` of the same family has the same protocol with other numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pykexec.arch import ARM64
from pykexec.errors import NotSupported
from pykexec.frozen import dataclass
from pykexec.machine import Unknown
from pykexec.placement.encryption import ConfidentialGuest, Encryption

if TYPE_CHECKING:
    from pykexec.arch import Arch
    from pykexec.images.kernel_image import KernelImage
    from pykexec.machine import Machine
    from pykexec.memory.map import MemoryMap
    from pykexec.memory.ranges import PhysRange, RangeSet
    from pykexec.placement.cmdline import CommandLine
    from pykexec.placement.estimate import Term
    from pykexec.placement.granted import Granted
    from pykexec.placement.limits import Limits
    from pykexec.placement.plan import BootPlaces, NormalPlan, Placed
    from pykexec.placement.request import LoadRequest
    from pykexec.placement.space import Space
    from pykexec.placement.stub_job import StubJob


class BootInformation(Protocol):
    """What a Linux kernel gets at its entry (boot_params, or a device tree), before its address is
    known."""

    @property
    def size(self) -> int:
        """Size of its segment in bytes."""

    @property
    def cmdline(self) -> CommandLine: ...

    @property
    def memory_map(self) -> MemoryMap: ...

    def encode(self, at: int, initrd: PhysRange | None, initrd_size: int = 0) -> bytes:
        """The bytes for the address `at`, with the initrd at `initrd.start`."""


@dataclass(frozen=True, slots=True)
class CaptureMemory:
    """The memory of a capture kernel: `ram`, in which the ELF core headers and `copies` of old
    memory may lie, and `map`, with both of them reserved."""

    ram: RangeSet
    headers: PhysRange
    copies: tuple[PhysRange, ...]
    map: MemoryMap


class BootProtocol(Protocol):
    """What one architecture needs. All errors are KexecErrors."""

    @property
    def arch(self) -> Arch: ...

    @property
    def limits(self) -> Limits: ...

    def encryption(self, machine: Machine) -> Encryption | Unknown | None:
        """What encrypts memory; None if nothing does."""

    def refuse(self, image: KernelImage, machine: Machine, request: LoadRequest) -> None:
        """Raise for a load that this architecture or this machine does not support."""

    def plan_normal(
        self, image: KernelImage, machine: Machine, request: LoadRequest, granted: Granted
    ) -> NormalPlan:
        """The complete plan of a normal load."""

    def capture_words(self, headers_at: int | None) -> tuple[str, ...]:
        """The words of every capture kernel's command line; the ELF core headers are at
        `headers_at`, or the kernel itself says where."""

    @property
    def usual_words(self) -> tuple[str, ...]:
        """The words that a capture kernel gets unless the request has others. What a kernel does
        not know it passes on to init (init/main.c:unknown_bootoption)."""

    def boot_information(
        self,
        image: KernelImage,
        machine: Machine,
        request: LoadRequest,
        rng_seed: bytes,
        line: CommandLine,
        memory: CaptureMemory,
    ) -> BootInformation:
        """The boot information for a capture kernel. Raises NoLinux64 for an image that cannot be
        one."""

    def place(
        self, space: Space, image: KernelImage, request: LoadRequest, information: BootInformation
    ) -> BootPlaces:
        """The places of a capture kernel's parts. Raises NoHole."""

    def placed(
        self,
        image: KernelImage,
        request: LoadRequest,
        boot: BootPlaces,
        information: BootInformation,
    ) -> tuple[Placed, ...]:
        """The same parts with their bytes."""

    def refuse_window(self, window: PhysRange, image: KernelImage) -> None:
        """Raise WindowRefused for a window in which this kernel cannot run."""

    def pools(self, machine: Machine, request: LoadRequest) -> tuple[Term, ...]:
        """Memory that every kernel takes for devices of this machine."""

    def capture_warnings(
        self, machine: Machine, request: LoadRequest, line: CommandLine
    ) -> tuple[str, ...]:
        """What a capture kernel with this command line lacks on this machine."""

    def moved_warnings(self, machine: Machine) -> tuple[str, ...]:
        """What goes on using memory that *stub-swap* moves after a panic, besides devices and
        IOMMUs."""

    def stub_size(self, machine: Machine, n_regions: int, n_exchanges: int = 0) -> int:
        """Bytes of the stub's segment with this many records."""

    def encode_stub(self, job: StubJob, machine: Machine, at: int) -> bytes:
        """The stub's bytes for the address `at` of this machine. Raises BadExchange."""

    def reservation_need(self, machine: Machine, stub_size: int) -> int:
        """Bytes of a crash region for the stub and the pages that the kernel itself takes."""


def boot_protocol(machine: Machine) -> BootProtocol:
    """The protocol of the machine's architecture. If that is unknown or has none, the protocol of
    x86_64, whose images can be planned and rehearsed anywhere. Raises NotSupported if it has
    several page sizes, and this machine's is unknown."""
    if machine.architecture in ARM64.unames:
        from pykexec.placement.arm64.protocol import Arm64Protocol

        return Arm64Protocol(machine.known_arch)
    from pykexec.placement.x86.layout import arch_of
    from pykexec.placement.x86.protocol import X86Protocol

    return X86Protocol(arch_of(machine))


def known_protocol(machine: Machine) -> BootProtocol | Unknown:
    """The same for a diagnosis, which goes on where a load ends."""
    try:
        return boot_protocol(machine)
    except NotSupported as error:
        return Unknown(error.message)


def memory_encryption(machine: Machine) -> Encryption | Unknown | None:
    """What encrypts the memory of this kernel; None if nothing does. Unknown if facts are missing
    and no other shows encryption."""
    protocol = known_protocol(machine)
    return protocol if isinstance(protocol, Unknown) else protocol.encryption(machine)


def refuse_confidential(machine: Machine) -> None:
    """Refuse a load that uses the stub in a confidential guest. Raises ConfidentialGuest."""
    found = memory_encryption(machine)
    if isinstance(found, Encryption) and found.guest:
        raise ConfidentialGuest(found.why_no_dump, hint=found.remedy, technology=found.technology)


def page_size(machine: Machine) -> int:
    """Bytes of the pages in which a load on this machine is placed."""
    return boot_protocol(machine).arch.page_size


def whole_page_ram(machine: Machine) -> RangeSet:
    """The RAM of a machine in whole pages of `page_size`. Raises NotSupported if its memory map is
    unknown."""
    return machine.known_map.whole_page_ram(page_size(machine))


def low_memory(machine: Machine) -> RangeSet:
    """RAM that a capture kernel needs wherever its window is; empty if it needs none."""
    protocol = boot_protocol(machine)
    return protocol.limits.low_ram(machine.known_map, protocol.arch.page_size)
