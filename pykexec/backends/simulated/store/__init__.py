"""The machine as a folder, which changes in a single commit."""
