"""Structures from arm64's headers."""
