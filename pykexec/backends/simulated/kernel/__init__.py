"""The first kernel: its system call, its images, its frames."""
