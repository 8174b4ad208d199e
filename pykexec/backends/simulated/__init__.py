"""A simulated kernel: kexec_load(2), the page list, the switch and the capture kernel, on a machine
that is a folder. Actions and their order are those of the kernel (kernel-contract 1, 2, 3, 6 and
7), plus the flag of the 2007 proposal.

    backend, turns, show             what flows call; each call is a turn, all or nothing
    machine_folder, machine_file     the folder, its one commit, and machine.json in it
    json_fields, files               arbitrary JSON; files that are written completely
    new_machine, layout              the memory layout, from a seed or from a captured machine
    machine_state, frames, ram       the machine: its values, its frames' owners, its bytes
    kernel, syscall, gates           the first kernel, and every check of a load
    allocators, kimage*              which frames an image gets, in either slot
    first_kernel, vmcoreinfo         what the kernel writes into its own memory
    switch, relocate, stub_run       from the panic through the page list and the stub
    zero_page, capture               what the second kernel finds, and the dump that it can read
"""

from pykexec.backends.simulated.backend import SimulatedBackend as SimulatedBackend
