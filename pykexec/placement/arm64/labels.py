"""Labels for what only images on arm64 get."""

from __future__ import annotations

DEVICE_TREE = "device tree"
