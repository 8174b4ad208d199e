"""The kernel of this machine as the backend of a command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.backends.kernel.backend import KernelBackend
from pykexec.backends.kernel.calls import ThisKernel

if TYPE_CHECKING:
    from pykexec.backends.backend import Backend


def backend() -> KernelBackend:
    return KernelBackend(ThisKernel())


def as_kernel(acting: Backend) -> KernelBackend:
    """The backend selected by --backend kernel."""
    assert isinstance(acting, KernelBackend)
    return acting
