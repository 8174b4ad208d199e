"""The units, udev rules and kernel hook of pykexec."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from pykexec.backends.setup.step import Command, Step
from pykexec.errors import NotSupported
from pykexec.flows.setup.change import DAEMON_RELOAD, changes, state, with_udev
from pykexec.host.file_state import NOTHING, PLAIN, FileState, file_with, link_to
from pykexec.host.setup_facts import (
    ENABLED,
    HOOK,
    HOOKS,
    LOCAL_CAPTURE,
    PLUGIN,
    PLUGINS,
    RULES,
    RULES_FOLDER,
    UNIT_FOLDER,
    UNIT_SUFFIXES,
    SetupFacts,
    enabling,
)

if TYPE_CHECKING:
    from pykexec.backends.setup.journal import Record

SERVICE = "pykexec-crash.service"
STOP: Command = (
    *("systemctl", "stop", "pykexec-check.timer", "pykexec-rearm.path", "pykexec-rearm.service"),
    *(SERVICE, "pykexec-saved.service"),
)
INSTALL = "install"
PROGRAM = 0o755


class NoUnits(NotSupported):
    """The units are neither installed nor shipped with this installation."""

    code = "no-units"


def steps(facts: SetupFacts, record: Record | None) -> Iterator[Step]:
    """The steps that install and enable the units. What earlier runs have installed, which `record`
    has, is updated, except what somebody has changed. Raises NoUnits, NotChangeable."""
    yield from _installed(facts, _ours(record))
    yield from _enabled(facts)


def notes(facts: SetupFacts, record: Record | None) -> Iterator[str]:
    """Which installed files are not those of this pykexec."""
    ours = _ours(record)
    if ours and not facts.shipped:
        yield (
            f"the units in {UNIT_FOLDER}, of an earlier installation of pykexec, precede those of "
            "the package: run pykexec setup --undo, and then pykexec setup again"
        )
    for path, after in _files(facts):
        if _is_edited(facts, path, ours) and state(facts, path) != after:
            yield f"{path}: changed after pykexec setup, and not updated"


def _ours(record: Record | None) -> dict[str, FileState]:
    """The files that earlier runs have installed, as they left them."""
    entry = record.entry(INSTALL) if record else None
    return {change.path: change.after for change in entry.step.changes} if entry else {}


def _is_edited(facts: SetupFacts, path: str, ours: Mapping[str, FileState]) -> bool:
    return path in ours and state(facts, path) not in (ours[path], NOTHING)


def _installed(facts: SetupFacts, ours: Mapping[str, FileState]) -> Iterator[Step]:
    """The step for the files that a package installs in their places, and pip does not."""
    needed = set(_missing(facts)) | ours.keys()
    units = dict(_units(facts))
    if units.keys() & needed:  # a new version can have more of them
        needed |= units.keys()
    wanted = {
        path: after
        for path, after in _files(facts)
        if path in needed and not _is_edited(facts, path, ours)
    }
    if changed := changes(facts, wanted):
        yield Step(
            INSTALL,
            "install the units, the udev rules and the kernel hook",
            changed,
            after=(DAEMON_RELOAD, *with_udev(facts)),
            undo_after=(DAEMON_RELOAD, *with_udev(facts)),
        )


def _missing(facts: SetupFacts) -> Iterator[str]:
    """The paths of what is not installed, in this place or in another. Raises NoUnits."""
    if facts.capture and "pykexec" not in facts.programs:
        raise NoUnits(
            "the units need a program pykexec, and this single file is not installed as one",
            hint="copy it to /usr/local/bin/pykexec, and run pykexec setup again",
        )
    yield from (path for path, _ in _capture(facts))
    if not all(name in facts.units for name, _ in ENABLED):
        if not all(name in facts.shipped for name, _ in ENABLED):
            raise NoUnits(
                "the systemd units of pykexec are not installed",
                hint="install pykexec as a package, with pip, or as a single file",
            )
        yield from (path for path, _ in _units(facts))
    if not facts.rules:
        yield f"{RULES_FOLDER}/{RULES}"
    if not facts.hook:
        yield from (path for path, _ in _hooks(facts))


def _files(facts: SetupFacts) -> Iterator[tuple[str, FileState]]:
    """What this pykexec can install, by path."""
    yield from _capture(facts)
    yield from _units(facts)
    if RULES in facts.shipped:
        yield f"{RULES_FOLDER}/{RULES}", file_with(facts.shipped[RULES])
    yield from _hooks(facts)


def _capture(facts: SetupFacts) -> Iterator[tuple[str, FileState]]:
    for name, text in facts.capture.items():
        mode = PROGRAM if text.startswith("#!") else PLAIN
        yield f"{LOCAL_CAPTURE}/{name}", file_with(text, mode=mode)


def _units(facts: SetupFacts) -> Iterator[tuple[str, FileState]]:
    for name, text in facts.shipped.items():
        if name.endswith(UNIT_SUFFIXES):
            yield f"{UNIT_FOLDER}/{name}", file_with(text)


def _hooks(facts: SetupFacts) -> Iterator[tuple[str, FileState]]:
    """The hooks for Debian's kernel packages and for kernel-install(8), which differ."""
    debian = [folder for folder in HOOKS if folder in facts.hook_folders]
    if debian and HOOK in facts.shipped:
        for folder in debian:
            yield f"{folder}/{HOOK}", file_with(facts.shipped[HOOK], mode=PROGRAM)
    elif PLUGINS[0] in facts.hook_folders and PLUGIN in facts.shipped:
        yield f"{PLUGINS[0]}/{PLUGIN}", file_with(facts.shipped[PLUGIN], mode=PROGRAM)


def _enabled(facts: SetupFacts) -> Iterator[Step]:
    wanted = {
        enabling(unit, wanted_by): link_to(facts.units.get(unit, f"{UNIT_FOLDER}/{unit}"))
        for unit, wanted_by in ENABLED
        if not facts.files[enabling(unit, wanted_by)].exists
    }
    if needed := changes(facts, wanted):
        yield Step(
            "units",
            "arm the crash dump at boot, verify it every ten minutes, and report saved dumps",
            needed,
            after=(DAEMON_RELOAD,),
            undo_before=(STOP,),
            undo_after=(DAEMON_RELOAD,),
        )


def arming(facts: SetupFacts, changed: bool) -> Iterator[Step]:
    """The step that arms a machine which needs no reboot for it. `changed` is whether something
    that is loaded has changed."""
    if changed or not facts.armed:
        yield Step(
            "arm",
            "arm the crash dump now",
            after=(("systemctl", "restart", SERVICE),),
            undo_before=(STOP,),
        )
