"""The machine as a folder, and its one commit."""
