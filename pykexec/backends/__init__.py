"""The implementations of kexec_load(2): the simulated kernel, and the real one."""
