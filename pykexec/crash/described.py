"""What the headers of a crash image describe of the first kernel, in a form that can be compared
later."""

from __future__ import annotations

import hashlib

from pykexec.machine import Machine, Unknown


def described(machine: Machine) -> str | Unknown:
    """A digest of what the ELF core headers list: RAM, and where each CPU leaves its notes. A dump
    lacks what came later, such as hotplugged memory."""
    if isinstance(machine.memory_map, Unknown):
        return machine.memory_map
    if isinstance(machine.cpus, Unknown):
        return machine.cpus
    if machine.arch is None:
        return Unknown("the architecture or its page size is unknown, or not supported")
    ram = [(span.start, span.end) for span in machine.memory_map.old_memory(machine.arch.page_size)]
    notes = sorted((note.cpu, note.addr, note.size) for note in machine.cpus)
    return hashlib.sha256(repr((ram, notes)).encode()).hexdigest()
