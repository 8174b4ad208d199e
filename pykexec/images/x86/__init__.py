"""Image types for x86."""
