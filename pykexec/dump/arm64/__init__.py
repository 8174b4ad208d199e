"""What only dumps of arm64 have: page tables, registers, stacks with frame records, and the
addresses of data that the kernel's tables do not name."""
