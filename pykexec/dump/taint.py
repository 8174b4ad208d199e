"""The meaning of the taint flags (Documentation/admin-guide/tainted-kernels.rst)."""

from __future__ import annotations

WORDS = (
    ("P", "a proprietary module was loaded"),
    ("F", "a module was loaded by force"),
    ("S", "the processor or system is out of specification"),
    ("R", "a module was unloaded by force"),
    ("M", "the processor reported a machine check exception"),
    ("B", "a bad page, or unexpected page flags"),
    ("U", "requested by user space"),
    ("D", "the kernel died: an oops or BUG"),
    ("A", "an ACPI table was overridden"),
    ("W", "the kernel issued a warning"),
    ("C", "a staging driver was loaded"),
    ("I", "a workaround for a bug in the platform's firmware"),
    ("O", "an out-of-tree module was loaded"),
    ("E", "an unsigned module was loaded"),
    ("L", "a soft lockup occurred"),
    ("K", "the kernel was live patched"),
    ("X", "auxiliary taint of the distribution"),
    ("T", "the kernel was built with randomized structures"),
    ("N", "a test ran in the kernel"),
    ("J", "user space changed a device through fwctl"),
)
"""By bit number: the letter that the kernel prints, and its meaning."""


def taint_words(mask: int) -> list[str]:
    """`W: the kernel issued a warning` for each bit that is set."""
    named = [f"{letter}: {words}" for bit, (letter, words) in enumerate(WORDS) if mask >> bit & 1]
    rest = mask >> len(WORDS)
    return [*named, *([f"unknown bits {rest << len(WORDS):#x}"] if rest else [])]
