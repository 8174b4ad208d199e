"""The real kernel: what it did with an image, and memory of our own beside it."""
