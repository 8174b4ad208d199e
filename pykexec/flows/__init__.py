"""One flow in each file: what a command does, from the request to the result."""
