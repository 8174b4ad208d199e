"""Parsed image + memory map = plan = segment table. Everything here is pure."""
