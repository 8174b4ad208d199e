"""/etc/pykexec.conf: what is armed, and that pykexec itself saves the dump."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from pykexec.backends.setup.step import Step
from pykexec.flows.setup.change import BY, changes, state
from pykexec.host.configuration import PATH, parse
from pykexec.host.file_state import NOTHING, file_with
from pykexec.host.setup_facts import OLD_CONFIGURATION, SYSCTLS, SetupFacts

if TYPE_CHECKING:
    from pykexec.machine import Machine

TARGET = "systemd.unit=pykexec-save.target"
OTHERS = ("reset_devices", "usbcore.nousb")
KEEP = "--keep kernel"
"""As in the file that is shipped. Options that somebody has chosen stay."""
NEW = "# Configuration of pykexec, made by pykexec setup; see pykexec.conf(5).\n"
SYSCTL_TEXT = """\
# Oopses{nmis} panic, and so make a dump. If no capture kernel starts, the machine
# reboots after ten seconds.
"""
NMI = "kernel.unknown_nmi_panic"


def values_of(facts: SetupFacts) -> dict[str, str]:
    """The values that the service uses: those of the old file, then those of the new one. Raises
    NotChangeable."""
    old, _ = parse(state(facts, OLD_CONFIGURATION).text)
    new, _ = parse(state(facts, PATH).text)
    return old | new


def steps(facts: SetupFacts) -> Iterator[Step]:
    """Yield a step if anything is missing, which merges the old file into the new one. Raises
    NotChangeable."""
    found, old = state(facts, PATH), state(facts, OLD_CONFIGURATION)
    values = values_of(facts)
    present, _ = parse(found.text)
    wanted = values | wishes(values)
    text = with_values(
        found.text or NEW, {key: text for key, text in wanted.items() if present.get(key) != text}
    )
    files = {PATH: file_with(text, found)}
    if old.exists:
        files[OLD_CONFIGURATION] = NOTHING
    if needed := changes(facts, files):
        moved = f", with the values of {OLD_CONFIGURATION}" if old.exists else ""
        yield Step("configuration", f"select what is armed and saved, in {PATH}{moved}", needed)


def wishes(values: Mapping[str, str]) -> dict[str, str]:
    """The values that setup requires. An initrd that somebody has chosen keeps its way of
    saving."""
    required = {"BACKEND": "kernel"}
    append, options = values.get("APPEND", "").split(), values.get("OPTIONS", KEEP).split()
    if not values.get("INITRD"):
        others = [word for word in append if not word.startswith("systemd.unit=")]
        added = [word for word in OTHERS if word not in others]
        panic = [] if any(word.startswith("panic=") for word in others) else ["panic=10"]
        required["APPEND"] = " ".join([TARGET, *panic, *others, *added])
    if not any(word.startswith("root=") for word in append) and "--reuse-cmdline" not in options:
        options = [*options, "--reuse-cmdline"]
    if options != values.get("OPTIONS", "").split():
        required["OPTIONS"] = " ".join(options)
    return {key: text for key, text in required.items() if values.get(key) != text}


def with_values(text: str, values: Mapping[str, str]) -> str:
    """The text of a configuration file with these values: each replaces the present line of its
    key, or follows the line that shows its default, or is at the end."""
    for key, value in values.items():
        line = f"{key}={value}"
        for pattern in (rf"(?m)^[ \t]*{key}[ \t]*=.*$", rf"(?m)^#{key}=.*$"):
            places = list(re.finditer(pattern, text))
            if places:
                last = places[-1]
                kept = "" if pattern.startswith("(?m)^[") else f"{last[0]}\n"
                text = f"{text[: last.start()]}{kept}{line}{text[last.end() :]}"
                break
        else:
            text = f"{text}{'' if text.endswith(chr(10)) or not text else chr(10)}{line}\n"
    return text


def sysctl_steps(machine: Machine, facts: SetupFacts) -> Iterator[Step]:
    """Yield a step for the sysctls, which is only taken on request. Raises NotChangeable."""
    wanted, present = _panic_sysctls(machine), _present(machine)
    nmis = " and unknown NMIs" if NMI in wanted else ""
    lines = "".join(f"{name} = {value}\n" for name, value in wanted.items())
    text = BY + SYSCTL_TEXT.format(nmis=nmis) + lines
    needed = changes(facts, {SYSCTLS: file_with(text)})
    if not needed and all(present[name] == value for name, value in wanted.items()):
        return
    yield Step(
        "sysctls",
        f"make oopses{nmis} panic, and the machine reboot if no capture kernel starts",
        needed,
        after=(("sysctl", "-q", "-p", SYSCTLS),),
        undo_after=tuple(
            ("sysctl", "-q", "-w", f"{name}={value}")
            for name, value in present.items()
            if value is not None and value != wanted[name]
        ),
    )


def _panic_sysctls(machine: Machine) -> dict[str, int]:
    """Those that the kernel has: sysctl(8) fails at any other."""
    nmi = {NMI: 1} if machine.has_nmi_sysctl else {}
    return {"kernel.panic": 10, "kernel.panic_on_oops": 1, **nmi}


def _present(machine: Machine) -> dict[str, int | None]:
    sysctls = machine.sysctls
    found = {
        "kernel.panic": sysctls.panic,
        "kernel.panic_on_oops": sysctls.panic_on_oops,
        NMI: sysctls.unknown_nmi_panic,
    }
    return {
        name: value if isinstance(value := found[name], int) else None
        for name in _panic_sysctls(machine)
    }


def panic_note(machine: Machine) -> str | None:
    """What --panic-sysctls would change, if anything."""
    wrong = [f"{name} is {value}" for name, value in _present(machine).items() if value == 0]
    if not wrong:
        return None
    return (
        f"{', '.join(wrong)}: some faults make no dump, or halt the machine; "
        "use --panic-sysctls to change that"
    )
