"""Image types of arm64."""
