"""Structures, enums and constants from the kernel's headers, without logic."""
