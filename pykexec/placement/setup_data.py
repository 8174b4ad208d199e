"""Nodes of the setup_data list, before they have an address (asm/setup_data.h)."""

from __future__ import annotations

from dataclasses import dataclass

from pykexec.abi.bootparam import SetupType


@dataclass(frozen=True, slots=True)
class SetupData:
    """One node: its type and its bytes."""

    type: SetupType
    data: bytes
