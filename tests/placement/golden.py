"""A plan as text, for complete outputs in tests/golden/."""

from __future__ import annotations

from pykexec.images.contents import contents_bytes
from pykexec.placement.plan import PlacementPlan
from pykexec.purgatory import StubParams, parse_params
from tests.placement.names import PURGATORY


def described(plan: PlacementPlan) -> str:
    """Each object with its place and reason, and what the stub passes on."""
    rows = [
        f"{item.range.start:#x}/{item.range.size:#x}({item.segment.bufsz:#x}) "
        f"{item.name}: {item.why}"
        for item in plan
    ]
    told = stub_params(plan)
    bits = 32 if told.enters_32 else 64
    registers = {
        "rip": told.entry,
        "rsi": told.boot_params,
        "rax": told.rax,
        "rbx": told.rbx,
        "rdi": told.rdi,
    }
    given = " ".join(f"{name}={value:#x}" for name, value in registers.items() if value)
    rows.append(f"entry {plan.entry:#x}, then {bits}-bit {given}")
    rows += [f"warning: {text}" for text in plan.warnings]
    return "\n".join(rows) + "\n"


def stub_params(plan: PlacementPlan) -> StubParams:
    item = plan.named(PURGATORY)
    assert item is not None
    assert item.contents is not None
    return parse_params(contents_bytes(item.contents, 1 << 20))
