"""The real kernel: its system calls, its copy of an image, and the stage.

backend, calls              what flows call, and every call that makes the kernel act buffers,
kimage             the bytes for the kernel; its page list, read back modes, relocation
which modes of crash by normal this machine allows runs, stage_plan            which huge pages a
mode needs, and which available ones to keep stage, staged               huge pages allocated and
released; their contents bays                        the stage in use, and a second one for its
replacement journal, record, state_file what was taken and loaded, for the next program
"""
