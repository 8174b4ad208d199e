"""What every line of the program begins with, and the exit status of most failures."""

NAME, FAILED = "pykexec-kexec", 255
