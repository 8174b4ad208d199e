"""Who answers kexec_load(2): the simulated kernel, or the real one."""
