"""Structures from x86's headers."""
