"""A complete crash by normal on a temporary machine: simulated, or in QEMU."""
