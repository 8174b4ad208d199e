"""The real kernel: what it did with an image, and memory of our own beside it.

backend, calls              what flows call, and every way to let the kernel act
buffers, kimage             the bytes that it is given; what it made of them, read back
modes, relocation           which ways of a crash by normal this machine allows
runs, stage_plan            which huge pages a mode needs, and which of those at hand to keep
stage, staged               huge pages taken and given back; what waits in them
bays                        the stage in use, and one beside it for what is to replace it
journal, record, state_file what was taken and loaded, for whoever comes next
"""
