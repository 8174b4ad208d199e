"""The real kernel: its system calls, its copy of an image, and the stage.

backend, calls           what flows call, and every call that makes the kernel act
buffers, kimage          the bytes for the kernel; its page list, read back
modes, relocation        which modes of crash by normal this machine allows
runs, stage_plan         which huge pages a mode needs, and which available ones to keep
stage, staged            huge pages, allocated and released; their contents
lent_blocks              memory blocks that are made movable
bays                     the stage in use, and a second one for its replacement
journal, record,
state_file               what was taken and loaded, for the next program
region, region_rules     a crash region made at run time by the kernel module
image_check              whether the kernel still has the image that was loaded
"""
