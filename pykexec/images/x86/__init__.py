"""Image types of x86."""
