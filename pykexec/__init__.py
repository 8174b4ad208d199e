"""kexec and kdump in Python, showing what goes where, and why, before anything happens."""

__version__ = "0.1.0"
