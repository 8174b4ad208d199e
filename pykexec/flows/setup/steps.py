"""All steps of `pykexec setup`, in order, decided from facts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from pykexec.errors import NotSupported
from pykexec.flows.doctor import diagnose
from pykexec.flows.doctor.row import Level
from pykexec.flows.setup import boot, configuration, initrd, others, units
from pykexec.flows.setup.region import RegionChoice, choose_region
from pykexec.frozen import dataclass

if TYPE_CHECKING:
    from pykexec.backends.setup.journal import Record
    from pykexec.backends.setup.step import Step
    from pykexec.host.setup_facts import SetupFacts
    from pykexec.machine import Machine

ARM = "arm"
ORDER = (
    *("boot", "install", "initrd", "configuration", "sysctls"),
    *("kdump-services", "kdump-rules", "units", ARM),
)
"""The names of all steps."""
LOADED = frozenset({"install", "initrd", "configuration", "kdump-services", ARM})
"""Steps after which the machine has to be re-armed; the last one was begun and not completed."""


class CannotArm(NotSupported):
    """No load would succeed on this machine."""

    code = "cannot-arm"


@dataclass(frozen=True, slots=True)
class SetupSteps:
    """The steps to take; none if the machine is set up."""

    region: RegionChoice
    steps: tuple[Step, ...]
    notes: tuple[str, ...]

    @property
    def reboot(self) -> bool:
        """Whether the machine can be armed only after a reboot."""
        return not self.region.now


def decide(
    machine: Machine, facts: SetupFacts, record: Record | None = None, sysctls: bool = False
) -> SetupSteps:
    """`record` is what earlier runs have begun: their unfinished steps are completed. Raises
    KexecError where the machine cannot be set up."""
    check(machine, facts)
    choice = choose_region(machine)
    values = configuration.values_of(facts)
    found = [
        *boot.steps(machine, facts, choice),
        *units.steps(facts, record),
        *initrd.steps(machine, facts, values),
        *configuration.steps(facts),
        *(configuration.sysctl_steps(machine, facts) if sysctls else ()),
        *others.steps(machine, facts),
    ]
    found += _unfinished(found, record)
    if choice.now:
        changed = any(step.name in LOADED for step in found)
        found = [step for step in found if step.name != ARM]
        found += units.arming(facts, changed)
    ordered = sorted(found, key=lambda step: ORDER.index(step.name))
    notes = [
        *_notes(machine, facts, values, sysctls),
        *units.notes(facts, record),
        *(() if any(step.name == boot.NAME for step in ordered) else boot.notes(machine, choice)),
    ]
    return SetupSteps(choice, tuple(ordered), tuple(notes))


def _unfinished(found: Iterable[Step], record: Record | None) -> list[Step]:
    """The last commands of steps that were begun and not completed. Their files are compared again,
    and before the first of them the earlier commands were done."""
    names = {step.name for step in found}
    entries = record.entries if record else ()
    return [
        replace(entry.step, changes=(), before=())
        for entry in entries
        if not entry.done and entry.step.name not in names and entry.step.name in ORDER
    ]


def check(machine: Machine, facts: SetupFacts) -> None:
    """Raises CannotArm for a machine on which the units cannot run, or doctor finds that every load
    fails. A missing CAP_SYS_BOOT counts if there are other capabilities: a check without privilege
    is allowed, but root of a container can never arm."""
    if facts.container:
        raise CannotArm(
            f"this system runs in a container ({facts.container}), with the kernel of its host",
            hint="run pykexec setup on the host",
        )
    if not facts.systemd:
        raise CannotArm(
            "systemd does not run on this machine, and nothing else arms the crash dump at boot",
            hint="run pykexec load --crash-by-normal --backend kernel from an init script",
        )
    for row in diagnose(machine):
        if row.level is Level.FAIL and (row.name != "CAP_SYS_BOOT" or machine.capabilities):
            raise CannotArm(
                f"{row.name}: {row.evidence}", hint=row.fix or "pykexec doctor has the details"
            )


def _notes(
    machine: Machine, facts: SetupFacts, values: dict[str, str], sysctls: bool
) -> Iterable[str]:
    if values.get("INITRD"):
        yield (
            f"INITRD={values['INITRD']} of /etc/pykexec.conf is kept, and with it the program that "
            "saves the dump"
        )
    if "makedumpfile" not in facts.programs:
        yield (
            "makedumpfile is not installed: a dump will be a copy of all memory; install it to "
            "save only the pages of the kernel"
        )
    elif _has_long_addresses(machine):
        yield (
            "makedumpfile up to 1.7.9 cannot read dumps of this kernel, which has addresses of 52 "
            "bits: with it, a dump will be a copy of all memory"
        )
    if not sysctls and (note := configuration.panic_note(machine)):
        yield note


def _has_long_addresses(machine: Machine) -> bool:
    """Whether the kernel is one of arm64 with addresses of 52 bits and pages that makedumpfile
    expects only with 48 (arch/arm64.c:calculate_plat_config, before its commit b7587f1)."""
    config = machine.config or {}
    return config.get("CONFIG_ARM64_VA_BITS") == "52" and machine.page_size != 64 << 10
