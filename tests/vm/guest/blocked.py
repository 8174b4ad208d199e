"""A task in uninterruptible sleep: the parent of a vfork whose child does not end."""

import ctypes
import time

libc = ctypes.CDLL(None)
if libc.vfork() == 0:
    time.sleep(3600)
