"""The source of the kernel module in module/."""
