"""Bytes as the kernel's headers have them: structures, enums and constants, no logic."""
