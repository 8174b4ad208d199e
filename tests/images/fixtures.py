"""One file for each image type; a type without one fails test_identify.py."""

from __future__ import annotations

from tests.builders import make_bzimage, make_vmlinux

FIXTURES: dict[str, bytes] = {
    "vmlinux": make_vmlinux(),
    "bzImage64": make_bzimage(),
}
