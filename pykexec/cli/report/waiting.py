"""The objects staged in huge pages for a panic."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pykexec.placement.role import Role

if TYPE_CHECKING:
    from pykexec.placement.plan import Placed, Plan


def staged(plan: Plan) -> list[Placed]:
    """Everything but the stub, by address."""
    return sorted((i for i in plan if i.role is not Role.PURGATORY), key=lambda item: item.range)
