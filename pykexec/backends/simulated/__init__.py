"""A kernel of our own: kexec_load(2), the page list, the switch and the capture kernel,
on a machine that is a folder. What it does and in what order is the kernel's
(kernel-contract 1, 2, 3, 6 and 7); what it adds is the flag of the 2007 proposal."""

from pykexec.backends.simulated.backend import SimulatedBackend as SimulatedBackend
