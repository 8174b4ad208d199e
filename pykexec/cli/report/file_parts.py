"""Common parts of the pages of `inspect`."""

from __future__ import annotations

from pykexec.cli.report.page_parts import size

ADDRESSES = 4096
"""Numbers from here up are shown in hexadecimal too: many are addresses."""


def in_words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and value >= ADDRESSES:
        return in_both(value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {in_words(item)}" for name, item in value.items()) or "none"
    if isinstance(value, list):
        return "; ".join(map(in_words, value)) or "none"
    return "none" if value is None else str(value)


def in_both(number: int) -> str:
    """Bytes, exact and in readable form."""
    return f"{number:#x} ({size(number)})"
