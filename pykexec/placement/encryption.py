"""Encrypted memory: what it means for pykexec's stub.

The stub runs on the identity map that the kernel leaves, without the kernel's handlers. So it
cannot run in a guest whose memory is encrypted, or on pages that the map shows as ciphertext. A
load, its dry run and `doctor` all use this.
"""

from __future__ import annotations

from pykexec.errors import NotSupported
from pykexec.frozen import dataclass
from pykexec.remedies import Advice, Use, Wish

BY_FILE = Use(
    Wish.SYSCALL,
    "file",
    ": the kernel's own purgatory works there (TDX: Linux 6.11, SEV-SNP: 6.15)",
)


class ConfidentialGuest(NotSupported):
    """A virtual machine whose memory the host cannot read: the stub cannot run in it."""

    code = "confidential-guest"


@dataclass(frozen=True, slots=True)
class Encryption:
    """What encrypts the memory of this kernel. `guest`: the host cannot read it."""

    technology: str
    guest: bool

    @property
    def why_no_dump(self) -> str:
        """Why crash by normal does not work."""
        if self.guest:
            return f"the stub cannot run in this {self.technology} guest"
        return f"{self.technology} encrypts memory, and the stub would read ciphertext"

    @property
    def remedy(self) -> Advice:
        return BY_FILE if self.guest else "boot with mem_encrypt=off"
