"""The parts of a dump: the backup map, notes, ELF core headers, and the vmcore."""
