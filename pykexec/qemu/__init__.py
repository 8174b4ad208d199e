"""`rehearse --engine qemu`: real kernels in a temporary QEMU process.

The guests of both kernels consist of this Python, its byte code and libraries, and pykexec:

    first.py    in the first kernel: memory in use, `pykexec load`, the pattern, a panic
    capture.py  in the capture kernel: reads /proc/vmcore
    rehearse.py on this machine: evaluates their messages, lines of JSON on a serial port
"""
