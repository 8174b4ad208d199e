"""What acts when a dump is saved: child processes with a time limit, files and commands that take
what is saved, the copy itself, and the end of the machine.

A capture kernel must come back up whatever hangs: a disk, a network, a program, our own code.
Therefore `limited` runs each step in a process group of its own, and kills it when its time is
over; the process that goes on touches no file of the target.
"""
