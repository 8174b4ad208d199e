"""Decides what `pykexec setup` changes. `plan` puts the steps of the other modules in order."""
