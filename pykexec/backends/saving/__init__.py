"""Actions for saving a dump: child processes with a time limit, files and commands as targets, the
copy itself, and the end of the machine.

A machine must come back up whatever hangs: a disk, a network, a program, our own code. Therefore
`limited` runs each step in a separate process group, and kills it when its time is over; the main
process does not touch files of the target.
"""
