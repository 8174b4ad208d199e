"""The units, udev rules and kernel hook of pykexec."""

from __future__ import annotations

from collections.abc import Iterator

from pykexec.backends.setup.step import Command, Step
from pykexec.errors import NotSupported
from pykexec.flows.setup.change import DAEMON_RELOAD, changes, with_udev
from pykexec.host.file_state import PLAIN, FileState, file_with, link_to
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

SERVICE = "pykexec-crash.service"
STOP: Command = (
    *("systemctl", "stop", "pykexec-check.timer", "pykexec-rearm.path", "pykexec-rearm.service"),
    *(SERVICE, "pykexec-saved.service"),
)
PROGRAM = 0o755


class NoUnits(NotSupported):
    """The units are neither installed nor shipped with this installation."""

    code = "no-units"


def steps(facts: SetupFacts) -> Iterator[Step]:
    """The steps that install and enable the units. Raises NoUnits, NotChangeable."""
    yield from _installed(facts)
    yield from _enabled(facts)


def _installed(facts: SetupFacts) -> Iterator[Step]:
    """The step for the files that a package installs in their places, and pip does not."""
    wanted = dict(_missing(facts))
    if needed := changes(facts, wanted):
        yield Step(
            "install",
            "install the units, the udev rules and the kernel hook",
            needed,
            after=(DAEMON_RELOAD, *with_udev(facts)),
            undo_after=(DAEMON_RELOAD, *with_udev(facts)),
        )


def _missing(facts: SetupFacts) -> Iterator[tuple[str, FileState]]:
    shipped = facts.shipped
    if facts.capture and "pykexec" not in facts.programs:
        raise NoUnits(
            "the units need a program pykexec, and this single file is not installed as one",
            hint="copy it to /usr/local/bin/pykexec, and run pykexec setup again",
        )
    for name, text in facts.capture.items():
        mode = PROGRAM if text.startswith("#!") else PLAIN
        yield f"{LOCAL_CAPTURE}/{name}", file_with(text, mode=mode)
    if not all(name in facts.units for name, _ in ENABLED):
        if not all(name in shipped for name, _ in ENABLED):
            raise NoUnits(
                "the systemd units of pykexec are not installed",
                hint="install pykexec as a package, with pip, or as a single file",
            )
        for name, text in shipped.items():
            if name.endswith(UNIT_SUFFIXES):
                yield f"{UNIT_FOLDER}/{name}", file_with(text)
    if not facts.rules and RULES in shipped:
        yield f"{RULES_FOLDER}/{RULES}", file_with(shipped[RULES])
    if not facts.hook:
        yield from _hooks(facts)


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
