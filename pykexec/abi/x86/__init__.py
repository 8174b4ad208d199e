"""Bytes as x86's headers have them."""
