"""What a command has to say, as a value: the flow's result, and which backend and
machine it is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pykexec.cli.output import Kind

if TYPE_CHECKING:
    from pykexec.backends.backend import LoadState, Slot
    from pykexec.backends.kernel.record import LoadRecord
    from pykexec.backends.region import CrashRegion
    from pykexec.backends.simulated.backend import Switched
    from pykexec.backends.simulated.show import MachineShow
    from pykexec.flows.doctor import Row
    from pykexec.flows.explain import ErrorKind, KernelCheck, Verdict
    from pykexec.flows.file_load import FilePlan
    from pykexec.flows.load import LoadedPlan
    from pykexec.flows.plan import Planned
    from pykexec.machine import Machine, RegionModule
    from pykexec.placement.granted import Granted
    from pykexec.placement.syscall_choice import SyscallChoice


@dataclass(frozen=True)
class Target:
    """`backend` is its name, `machine` how the user knows the machine."""

    backend: str
    machine: str


@dataclass(frozen=True)
class LoadReport:
    """`machine` is what was planned for; `done` is None after a dry run, `granted`
    for a dry run on the simulated kernel."""

    target: Target
    planned: Planned
    machine: Machine
    done: LoadedPlan | None = None
    granted: Granted | None = None
    syscall: SyscallChoice | None = None
    kind: ClassVar[Kind] = "load"

    @property
    def warnings(self) -> tuple[str, ...]:
        bound = self.done.bound if self.done else None
        return (
            *self.planned.plan.initrd.warnings,
            *self.planned.plan.warnings,
            *(self.granted.warnings if self.granted else ()),
            *self.gap,
            *(bound.warnings if bound else ()),
        )

    @property
    def effect(self) -> str:
        """What has happened, "" after a dry run."""
        return f"the {self.done.loaded.slot} image is loaded" if self.done else ""

    @property
    def gap(self) -> tuple[str, ...]:
        """A replacement that left the machine unarmed for a while."""
        replaced = self.granted.replaced if self.granted else None
        if replaced is None or replaced.stayed_armed:
            return ()
        return (f"nothing was armed while this was prepared: {replaced.gap}",)

    @property
    def notes(self) -> tuple[str, ...]:
        """For -v."""
        return self.planned.plan.initrd.notes


@dataclass(frozen=True)
class FileLoadReport:
    """What kexec_file_load was given, or would be: `loaded` is false after a dry run."""

    target: Target
    plan: FilePlan
    syscall: SyscallChoice
    loaded: bool
    kind: ClassVar[Kind] = "file_load"

    @property
    def effect(self) -> str:
        return f"the {self.plan.slot} image is loaded" if self.loaded else ""

    @property
    def warnings(self) -> tuple[str, ...]:
        return self.plan.warnings

    @property
    def notes(self) -> tuple[str, ...]:
        """For -v."""
        return self.plan.notes


@dataclass(frozen=True)
class UnloadReport:
    """`was` is what the slot held before."""

    target: Target
    slot: Slot
    was: LoadState


@dataclass(frozen=True)
class StagedReport:
    """What pykexec itself has loaded, and what was found on looking at it again."""

    record: LoadRecord
    huge_pages: int
    problem: str | None = None


@dataclass(frozen=True)
class StatusReport:
    """The state of both slots, and what pykexec staged for one of them."""

    target: Target
    slots: dict[Slot, LoadState]
    staged: StagedReport | None = None

    @property
    def anything(self) -> bool:
        """Unknown is not loaded."""
        from pykexec.backends.backend import LoadState

        return LoadState.LOADED in self.slots.values()


@dataclass(frozen=True)
class StartedReport:
    """A simulated machine that went on; a real one cannot say so any more."""

    target: Target
    how: Literal["exec", "crash"]
    """"exec", or "crash" for a panic."""
    switched: Switched


@dataclass(frozen=True)
class MachineReport:
    """A simulated machine; `folder` as the user named it."""

    folder: str
    shown: MachineShow


@dataclass(frozen=True)
class CapturedReport:
    """A file that holds this machine's facts; counts of what is in it."""

    file: str
    files: int
    folders: int
    unreadable: tuple[str, ...]


@dataclass(frozen=True)
class RegionReport:
    """`change` is "made" or "released", with the region that it happened to."""

    target: Target
    region: CrashRegion
    change: str | None = None


@dataclass(frozen=True)
class BuiltReport:
    """The module that was built."""

    module: RegionModule


@dataclass(frozen=True)
class DoctorReport:
    """One row for each precondition of `machine`."""

    machine: str
    rows: tuple[Row, ...]

    @property
    def problems(self) -> tuple[Row, ...]:
        """What a load does not survive."""
        from pykexec.flows.doctor import problems

        return tuple(problems(self.rows))


@dataclass(frozen=True)
class ExplainReport:
    """`plan` is what one says about each rule, when one was given."""

    word: str
    checks: tuple[KernelCheck, ...] = ()
    kind_of_error: ErrorKind | None = None
    plan: tuple[Verdict, ...] | None = None
