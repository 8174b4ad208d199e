"""The machines that QEMU emulates, one for each architecture of a guest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.arch import ARM64, X86_64
from pykexec.frozen import dataclass

if TYPE_CHECKING:
    from pykexec.arch import Arch

# Two bugs of QEMU 7.2 (Debian 12), which make kernels of x86_64 crash in early boot at random
# places. CMPXCHG16B leaves wrong flags, including TF: 6.12 crashed in 2 of 10 boots, and in none of
# 60 without the instruction. A kernel that rewrites its code while another virtual CPU runs it in a
# separate thread gets a stray int3 (1 of 15 boots of 6.12 with two CPUs).
NO_CMPXCHG16B = ",-cx16"
ONE_THREAD = "tcg,thread=single"
# With one thread the second CPU measures its delay loop while the first is stopped: 2 BogoMIPS
# instead of 5000. A panic there with panic=3 rebooted after 5 ms, and does not wait long enough for
# the other CPU to take its NMI.
DELAY_LOOP = "lpj=10000000"  # correct for 2.5 GHz and HZ=250, and close enough for others


@dataclass(frozen=True, slots=True)
class Board:
    """A machine. `readers` are the modules that a dump of its architecture makes its reader
    import."""

    arch: Arch
    program: str
    package: str
    """Debian's, which has the program."""
    words: tuple[str, ...]
    """QEMU's options that select machine and processor."""
    line: tuple[str, ...]
    """QEMU's options that connect the chardev "line", the guest's line to the host."""
    port: str
    """The device file of that line in the guest."""
    console: str
    append: str
    """Words for the first kernel alone."""
    readers: tuple[str, ...]


PC = Board(
    arch=X86_64,
    program="qemu-system-x86_64",
    package="qemu-system-x86",
    # With pages of 1 GiB, like real CPUs: a reservation contains the page tables.
    words=("-cpu", "qemu64,+pdpe1gb" + NO_CMPXCHG16B),
    line=("-serial", "chardev:line"),
    port="/dev/ttyS1",
    console="ttyS0",
    append=DELAY_LOOP,
    readers=("pykexec.dump.x86.paging", "pykexec.dump.x86.registers"),
)
VIRT = Board(
    arch=ARM64,
    program="qemu-system-aarch64",
    package="qemu-system-arm",
    words=("-machine", "virt", "-cpu", "neoverse-n1"),  # it has pages of 4, 16 and 64 KiB
    line=("-device", "pci-serial,chardev=line"),
    port="/dev/ttyS0",
    console="ttyAMA0",
    append="",
    readers=("pykexec.dump.arm64.paging", "pykexec.dump.arm64.registers"),
)
BOARDS = (PC, VIRT)


def board_for(uname: str) -> Board | None:
    """The machine for kernels that print this with uname -m; None if there is none."""
    return next((board for board in BOARDS if uname in board.arch.unames), None)
