"""Services and udev rules of other packages that would unload the crash image of pykexec."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pykexec.backends.setup.step import Step
from pykexec.flows.setup.change import DAEMON_RELOAD, changes, with_udev
from pykexec.host.file_state import link_to
from pykexec.host.others import NULL
from pykexec.host.setup_facts import RULES_FOLDER, UNIT_FOLDER, SetupFacts

if TYPE_CHECKING:
    from pykexec.machine import Machine


def steps(machine: Machine, facts: SetupFacts) -> Iterator[Step]:
    """Mask both, as systemctl mask does. An undo unmasks them."""
    units = machine.kdump_units or ()
    if units:
        yield Step(
            "kdump-services",
            f"mask {', '.join(units)}, which would replace the crash image of pykexec",
            changes(facts, {f"{UNIT_FOLDER}/{name}": link_to(NULL) for name in units}),
            before=(("systemctl", "stop", *units),),
            after=(DAEMON_RELOAD,),
            undo_after=(
                DAEMON_RELOAD,
                *(("systemctl", "start", "--no-block", unit) for unit in units),
            ),
        )
    rules = machine.reload_rules or ()
    if rules:
        names = [path.rpartition("/")[2] for path in rules]
        yield Step(
            "kdump-rules",
            f"mask {', '.join(rules)}, which would unload the crash image of pykexec",
            changes(facts, {f"{RULES_FOLDER}/{name}": link_to(NULL) for name in names}),
            after=with_udev(facts),
            undo_after=with_udev(facts),
        )
