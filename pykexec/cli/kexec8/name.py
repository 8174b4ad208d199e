"""The prefix of every message, and the exit status of most failures."""

NAME, FAILED = "pykexec-kexec", 255
