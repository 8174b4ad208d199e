"""A whole crash by normal on a machine that is thrown away: simulated, or in QEMU."""
