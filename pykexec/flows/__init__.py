"""One flow a file: what a command does, from its wishes to its result."""
