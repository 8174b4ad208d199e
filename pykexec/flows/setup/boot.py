"""The crash region as a word of the kernel command line, by the boot loader that is installed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from pykexec.backends.setup.step import Command, Step
from pykexec.errors import NotSupported
from pykexec.flows.setup.change import BY, changes, state
from pykexec.flows.setup.region import RegionChoice, reservations, with_reservation
from pykexec.host.file_state import FileState, file_with
from pykexec.host.setup_facts import GRUB_DEFAULT, GRUB_DROP_IN, KERNEL_CMDLINE, SetupFacts
from pykexec.placement.panic_modes import advised_region

if TYPE_CHECKING:
    from pykexec.machine import Machine

NAME = "boot"
BEGIN, END = "# pykexec setup: begin\n", "# pykexec setup: end\n"
OURS = re.compile(f"\n?{BEGIN}.*?{END}", re.DOTALL)
OPTIONS = re.compile(r"^(options[ \t]+)(.*)$", re.MULTILINE)
NOT_PASSED_ON = ("BOOT_IMAGE=", "initrd=")
"""Words of /proc/cmdline that the boot loader adds for each kernel."""


class UnknownBootLoader(NotSupported):
    """There is no boot loader whose configuration pykexec can change."""

    code = "unknown-boot-loader"


def steps(machine: Machine, facts: SetupFacts, choice: RegionChoice) -> Iterator[Step]:
    """Yield a step if the command line of the next boot has to change. Raises UnknownBootLoader,
    NotChangeable."""
    if choice.word is None:
        return
    found = _step(machine, facts, choice.word, choice.why)
    if found is not None:
        yield found


def notes(machine: Machine, choice: RegionChoice) -> Iterator[str]:
    """What may be wrong if the boot loader is configured, but there is no crash region."""
    if choice.now or not choice.word:
        return
    if choice.word in reservations(machine.cmdline or ""):
        yield (
            f"{choice.word} is on the command line of the running kernel, which reserved nothing: "
            "see its log"
        )
    else:
        yield (
            f"the boot loader is configured with {choice.word}; if the machine was rebooted since, "
            "it was started by another boot loader or another configuration"
        )


def _step(machine: Machine, facts: SetupFacts, word: str, why: str) -> Step | None:
    if "grubby" in facts.programs and facts.entries:
        return _by_grubby(facts, word, why)
    if "update-grub" in facts.programs and facts.menu:
        wanted = {GRUB_DROP_IN: file_with(BY + _filter(word))}
        return _by_grub(facts, wanted, word, why, ("update-grub",))
    if facts.entries:
        return _by_entries(machine, facts, word, why)
    for program in ("grub-mkconfig", "grub2-mkconfig"):
        if program in facts.programs and facts.menu and state(facts, GRUB_DEFAULT).exists:
            wanted = {GRUB_DEFAULT: _with_block(state(facts, GRUB_DEFAULT), word)}
            return _by_grub(facts, wanted, word, why, (program, "-o", facts.menu))
    raise UnknownBootLoader(
        f"no boot loader was found whose configuration can be changed to {why}",
        hint=f"{advised_region(machine)}; then run pykexec setup again",
    )


def _filter(word: str) -> str:
    """Lines for the shell that reads GRUB's configuration, which replace other reservations."""
    added = f" {word}" if word else ""
    return "".join(
        f"{name}=\"$(printf '%s' \"${name}\" | sed -E 's/(^| )crashkernel=[^ ]*//g'){tail}\"\n"
        for name, tail in (("GRUB_CMDLINE_LINUX", ""), ("GRUB_CMDLINE_LINUX_DEFAULT", added))
    )


def _with_block(default: FileState, word: str) -> FileState:
    """/etc/default/grub with our lines at its end, where nothing follows that could undo them."""
    text = OURS.sub("", default.text)
    return file_with(f"{text}\n{BEGIN}{_filter(word)}{END}", default)


def _by_grub(
    facts: SetupFacts, wanted: dict[str, FileState], word: str, why: str, apply: Command
) -> Step | None:
    """Add the word to the entries of normal boots only, not to those of the recovery mode."""
    needed = changes(facts, wanted)
    applied = word in facts.menu_words if word else facts.menu_words <= {""}
    if not needed and applied:
        return None
    return Step(NAME, why, needed, after=(apply,), undo_after=(apply,))


def _by_grubby(facts: SetupFacts, word: str, why: str) -> Step | None:
    """grubby also changes the defaults for later kernels. An undo restores the old words."""
    found = [reservations(_options(state(facts, path).text)) for path in facts.entries]
    if all(words == ([word] if word else []) for words in found):
        return None
    old = next((words[-1] for words in found if words), "")
    return Step(NAME, why, after=(_grubby(word),), undo_after=(_grubby(old),))


def _grubby(word: str) -> Command:
    added = (f"--args={word}",) if word else ()
    return ("grubby", "--update-kernel=ALL", "--remove-args=crashkernel", *added)


def _options(text: str) -> str:
    return " ".join(match[2] for match in OPTIONS.finditer(text))


LATER_ENTRIES = (
    'for entry in "$1"/*.conf; do grep -qsF -- "$2" "$entry" || continue; '
    r"""old=$(printf %s "${3:+ }$3" | sed 's/[\\&/]/\\&/g'); """
    r'sed -i -E "/^options[ \t]/s/ $2( |\$)/$old\1/" "$entry"; done'
)
"""A shell script that puts in the place of a word what was there before, "" for nothing. Its
arguments are the folder and both words."""


def _by_entries(machine: Machine, facts: SetupFacts, word: str, why: str) -> Step | None:
    """Change the entries of systemd-boot, and the command line for later kernels."""
    wanted = {path: _entry(state(facts, path), word) for path in facts.entries}
    wanted[KERNEL_CMDLINE] = _later(machine, state(facts, KERNEL_CMDLINE), word)
    needed = tuple(
        replace(change, may_vanish=change.path in facts.entries)
        for change in changes(facts, wanted)
    )
    if not needed:
        return None
    found = [reservations(_options(state(facts, path).text)) for path in facts.entries]
    old = next((words[-1] for words in found if words), "")
    return Step(NAME, why, needed, undo_after=tuple(_later_entries(facts, word, old)))


def _later_entries(facts: SetupFacts, word: str, old: str) -> Iterator[Command]:
    """The entries of kernels that were installed since have the word from /etc/kernel/cmdline."""
    folders = {path.rpartition("/")[0] for path in facts.entries}
    for folder in sorted(folders) if word else ():
        yield ("sh", "-c", LATER_ENTRIES, "sh", folder, word, old)


def _entry(entry: FileState, word: str) -> FileState:
    """An entry with this reservation only, in its last line of options; others than Linux
    unchanged."""
    text = entry.text
    lines = list(OPTIONS.finditer(text))
    if not re.search(r"^linux[ \t]", text, re.MULTILINE):
        return entry
    if not lines:
        return file_with(f"{text.rstrip()}\noptions {word}\n", entry) if word else entry
    if reservations(_options(text)) == ([word] if word else []):
        return entry
    for line in reversed(lines):
        new = with_reservation(line[2], word if line is lines[-1] else "")
        text = f"{text[: line.start()]}{line[1]}{new}{text[line.end() :]}"
    return file_with(text, entry)


def _later(machine: Machine, found: FileState, word: str) -> FileState:
    """/etc/kernel/cmdline; kernel-install(8) uses the running command line without it."""
    if found.exists:
        line = " ".join(found.text.split("\n")).rstrip()
        new = with_reservation(line, word)
        return found if new == line else file_with(new + "\n", found)
    words = (machine.cmdline or "").split()
    line = " ".join(item for item in words if not item.startswith(NOT_PASSED_ON))
    return file_with(with_reservation(line, word) + "\n")
