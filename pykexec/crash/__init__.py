"""What a dump is made of: the backup map, notes, ELF core headers, and the vmcore."""
