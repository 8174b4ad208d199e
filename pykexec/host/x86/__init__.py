"""Facts that only an x86 machine has."""
