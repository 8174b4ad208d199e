"""The stub for arm64."""
