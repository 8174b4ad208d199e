"""`rehearse --engine qemu`: real kernels in a QEMU process that is thrown away.

The guests of both kernels are made of this Python, byte code and libraries, and of pykexec:

    first.py    in the first kernel: memory in use, `pykexec load`, the pattern, a panic
    capture.py  in the capture kernel: /proc/vmcore is read
    rehearse.py on this machine: judges what both said, a line of JSON each, on a serial port
"""
