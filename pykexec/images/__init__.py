"""Image files: what is this file, and what does it ask for."""
