"""The stub, executed in an emulator; and its records."""
