"""The stub for x86_64."""
