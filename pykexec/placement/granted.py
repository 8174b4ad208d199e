"""What a backend supplies for one load, apart from what the user asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.frozen import dataclass
from pykexec.placement.segment import NO_FLAGS

if TYPE_CHECKING:
    from pykexec.abi.kexec import KexecFlag
    from pykexec.memory.ranges import PhysRange
    from pykexec.placement.request import Mode
    from pykexec.placement.stage import StageFrames

RNG_SEED_SIZE = 32


@dataclass(frozen=True, slots=True)
class Replaced:
    """An armed image was replaced; `gap` is why it was unloaded before the new one was ready, "" if
    it stayed armed until the kernel got the new one."""

    gap: str = ""

    @property
    def stayed_armed(self) -> bool:
        return not self.gap


@dataclass(frozen=True, slots=True)
class Granted:
    """Memory and facts that only a backend has. The defaults are those of a dry run."""

    mode: Mode | None = None
    """How the pages of a crash by normal are moved; None for any other load."""
    why: str = ""
    """The reason for the mode."""
    lacking: tuple[tuple[Mode, str], ...] = ()
    """The impossible modes, with the reason for each."""
    warnings: tuple[str, ...] = ()
    """What the mode does not guarantee."""
    replaced: Replaced | None = None
    """None if nothing was armed."""
    rng_seed: bytes = bytes(RNG_SEED_SIZE)
    """Zeros in a dry run, which makes it reproducible; random for a load."""
    flags: KexecFlag = NO_FLAGS
    """Further flags for this kernel, e.g. KEXEC_PRESERVE_CONTEXT."""
    headers_at: PhysRange | None = None
    """Memory outside of the image for the ELF core headers of mode kernel-swap."""
    stage: StageFrames | None = None
    """The huge pages that hold the image of a panic mode."""


DRY_RUN = Granted()
