"""A plan for each of many captured machines: which can be armed, how, and what it costs.

Kernels are identified once. Machines are planned by as many processes as there are processors,
some hundred at a time, so that memory does not grow with their number.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from glob import glob, has_magic
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from pykexec.errors import KexecError, UsageError
from pykexec.flows.expected import expected_load, prospect
from pykexec.flows.setup.region import after_reboot
from pykexec.frozen import dataclass
from pykexec.host.captured import open_root
from pykexec.host.facts import read_machine
from pykexec.images.identify import identify
from pykexec.placement.capture_kernel import ASSUMED
from pykexec.placement.implied import with_implied
from pykexec.placement.initrd import check_initrd
from pykexec.placement.plan import InitrdVerdict, mode_of
from pykexec.placement.request import Mode

if TYPE_CHECKING:
    from pykexec.images.kernel_image import KernelImage
    from pykexec.machine import Machine
    from pykexec.placement.request import LoadRequest
    from pykexec.remedies import Advice

AT_A_TIME = 512
CHUNK = 8
"""Machines in one work item of a process."""


@dataclass(frozen=True)
class Armed:
    """How a machine would be armed; sizes in bytes."""

    mode: Mode
    makes_region: bool
    after_reboot: bool
    window_size: int
    held: int
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Refused:
    """Why a machine cannot be armed."""

    code: str
    message: str
    hint: Advice | None


Outcome = Armed | Refused


@dataclass(frozen=True)
class Row:
    """`compared` is the outcome with the second kernel, None without one."""

    machine: str
    outcome: Outcome
    compared: Outcome | None = None

    @property
    def changed(self) -> bool:
        """Whether the second kernel changes more than explanatory texts."""
        return self.compared is not None and self.gist(self.outcome) != self.gist(self.compared)

    @staticmethod
    def gist(outcome: Outcome) -> tuple[object, ...]:
        if isinstance(outcome, Refused):
            return (outcome.code,)
        region = outcome.makes_region, outcome.after_reboot
        return (outcome.mode, region, outcome.window_size, outcome.held)


@dataclass(frozen=True)
class Candidate:
    """A kernel with its initrd and command line, identified and checked."""

    image: KernelImage
    request: LoadRequest
    initrd: InitrdVerdict

    @staticmethod
    def of(kernel: Path, request: LoadRequest) -> Candidate:
        """Raises KexecError for a kernel or initrd that cannot be used on any machine."""
        image = identify(kernel, profile=request.profile)
        complete = with_implied(image, request)
        return Candidate(image, complete, check_initrd(image, complete))


class WorkerKilled(KexecError):
    """A process of the pool has ended, as when memory runs out."""

    code = "worker-killed"
    usual_hint = "free memory, and plan again"


def rows(machines: Iterable[Path], candidates: tuple[Candidate, ...]) -> Iterator[Row]:
    """Yield a row for each machine, in order, also for a capture that cannot be read.
    `candidates` are the kernel and, to compare, a second one. Raises WorkerKilled."""
    several = iter(machines)
    with ProcessPoolExecutor(
        len(os.sched_getaffinity(0)),
        multiprocessing.get_context("fork"),
        _begin_worker,
        (candidates,),
    ) as pool:
        try:
            while piece := list(islice(several, AT_A_TIME)):
                yield from pool.map(_worker_row, piece, chunksize=CHUNK)
        except BrokenProcessPool as error:
            raise WorkerKilled(
                "a planning process was killed, and its machines were not planned"
            ) from error


worker_candidates: tuple[Candidate, ...] = ()
"""In each process of the pool: images have open files, which cannot be sent to it."""


def _begin_worker(candidates: tuple[Candidate, ...]) -> None:
    """An interrupt ends the parent, which ends its workers."""
    global worker_candidates  # noqa: PLW0603
    worker_candidates = candidates
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _worker_row(path: Path) -> Row:
    return _row(path, worker_candidates)


def _row(path: Path, candidates: tuple[Candidate, ...]) -> Row:
    """The plan for one machine. A bad file is an outcome, not an exception."""
    try:
        machine = read_machine(open_root(path))
    except KexecError as error:
        return Row(str(path), refusal(error), refusal(error) if candidates[1:] else None)
    outcomes: list[Outcome] = []
    for candidate in candidates:
        try:
            outcomes.append(_armed(machine, candidate))
        except KexecError as error:
            outcomes.append(refusal(error))
    return Row(str(path), *outcomes)


def _armed(machine: Machine, candidate: Candidate) -> Armed:
    """How `pykexec setup` would arm the machine, now or after a reboot. Raises the error with which
    the load would be refused."""
    request = candidate.request
    booted = None if request.mode is Mode.KERNEL_SWAP else after_reboot(machine)
    before = prospect(booted or machine, request)
    found = expected_load(candidate.image, before, request, candidate.initrd)
    plan = found.planned.plan
    mode = mode_of(plan)
    assert mode is not None, "the request is a crash by normal"
    return Armed(
        mode,
        before.makes_region,
        booted is not None,
        found.window_size,
        found.held,
        tuple(text for text in plan.warnings if text != ASSUMED),
    )


def refusal(error: KexecError) -> Refused:
    return Refused(error.code, error.message, error.remedy)


def members(words: Iterable[str], listed: Iterable[str]) -> Iterator[Path]:
    """The captured machines that the command line names: a file, a folder with /proc in it, a
    folder of both, a pattern that the shell did not expand, or "-" for the names in `listed`, one
    per line. Raises UsageError for a pattern that matches nothing."""
    for word in words:
        if word == "-":
            yield from (Path(name) for line in listed if (name := line.rstrip("\n")))
        elif has_magic(word) and not os.path.lexists(word):
            for name in _matching(word):
                yield from _at(Path(name))
        else:
            yield from _at(Path(word))


def _at(path: Path) -> Iterator[Path]:
    """A machine, or the machines in a folder, sorted by name; hidden ones are left out."""
    if not path.is_dir() or _is_machine(path):
        yield path
        return
    with os.scandir(path) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    for name in names:
        if not (path / name).is_dir() or _is_machine(path / name):
            yield path / name


def _is_machine(folder: Path) -> bool:
    return (folder / "proc").is_dir()


def _matching(pattern: str) -> list[str]:
    """Raises UsageError."""
    found = sorted(glob(pattern))
    if not found:
        raise UsageError(f"{pattern}: matches no file", hint="name captured machines")
    return found
