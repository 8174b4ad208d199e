"""Facts that only an arm64 machine has."""
