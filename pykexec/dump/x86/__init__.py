"""What only dumps of x86_64 have: page tables, registers, and stacks with ORC tables."""
