"""Bytes as arm64's headers have them."""
