"""One capture from start to end, the most important data first: the log, the report, then the dump.
Each step is a child process with a time limit; if one fails, the next is still tried.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pykexec.backends.saving.destination import Destination, opened, write_all, write_file
from pykexec.backends.saving.dumping import NoRoom, Watch, by_copy, by_makedumpfile
from pykexec.backends.saving.limited import StepFailed, limited
from pykexec.backends.saving.target import (
    make_folder,
    mount_device,
    names,
    remove_file,
    rename_folder,
)
from pykexec.documents.saved import SavedDump, SavedFile, SaveStep
from pykexec.flows.save.dump_command import dump_command, level_for
from pykexec.flows.save.folders import (
    DUMP,
    INCOMPLETE,
    LOG,
    REPORT,
    STATUS,
    new_name,
)
from pykexec.flows.save.progress import Progress
from pykexec.flows.save.reading import check_dump, log_lines, read_facts
from pykexec.flows.save.room import make_room, remove_surplus
from pykexec.flows.save.settings import FOLDER, SaveSettings

if TYPE_CHECKING:
    from pykexec.dump.report import Report

VMCORE = "/proc/vmcore"
MOUNTED = "/run/pykexec/target"
"""Where SAVE_DEVICE is mounted."""
CONSOLE_LINES = 40
"""Lines of the log for the console, if the machine has no place for it."""
NAMES_TRIED = 10
LOG_ROOM = 64 << 20
"""Bytes for log and report: old dumps are removed for them, whatever the setting of free space."""
Pages = Callable[["Report"], Mapping[str, bytes]]
"""Makes the files of a report: name and contents."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is read first; `slab_flag` as dump_command.level_for takes it."""

    release: str | None = None
    crashed: float | None = None
    """Seconds since the epoch."""
    slab_flag: bool = False


@dataclass
class Saving:
    """`source` is /proc/vmcore, or a file instead of it. `makedumpfile` is the path of the program,
    None if it is not installed. `pages` makes the files of a report, `say` writes a line to the
    console. `fallback` is the folder to use if the target fails."""

    settings: SaveSettings
    source: str
    makedumpfile: str | None
    pages: Pages
    say: Callable[[str], None]
    fallback: str = FOLDER
    problems: list[str] = field(default_factory=list)
    steps: list[SaveStep] = field(default_factory=list)
    facts: Facts = Facts()
    where: Destination | None = None
    files: list[str] = field(default_factory=list)
    reason: str | None = None

    def step(self, name: str, work: Callable[[], Any], seconds: float | None = None) -> Any:
        """The result of `work`, or None if the step failed."""
        begun = time.monotonic()
        problem = result = None
        try:
            result = limited(work, seconds or self.settings.step_time)
        except StepFailed as error:
            problem = error.message
            self.say(f"{name}: {problem}")
        self.steps.append(SaveStep(name, problem, round(time.monotonic() - begun, 1)))
        return result

    @property
    def last_failed(self) -> bool:
        return self.steps[-1].problem is not None

    def run(self) -> SavedDump:
        """All steps."""
        self.facts = Facts(**(self.step("facts", lambda: read_facts(self.source)) or {}))
        self.find_place()
        if self.where is None:
            self.step("console", self.log_to_console)
            return self.status(None)
        self.save_log()
        self.save_report()
        dump = self.save_dump()
        return self.finish(dump)

    # --- where to --------------------------------------------------------------------------------

    def find_place(self) -> None:
        """The configured folder, otherwise /var/crash in the root file system."""
        settings = self.settings
        found = self.step("target", lambda: self.prepare(settings.device, settings.folder))
        if found is None and (settings.device or settings.folder != self.fallback):
            self.problems.append(f"the configured target failed; {self.fallback} is used instead")
            found = self.step("target", lambda: self.prepare(None, self.fallback))
        if found is None and settings.command is None:
            return
        name, folder = found or (new_name(self.crashed, ()), None)
        self.where = Destination(name, folder, settings.command, settings.recipient)
        self.say(f"saving to {settings.command[0] if settings.command else folder}")

    def prepare(self, device: str | None, parent: str) -> tuple[str, str]:
        """(name, folder), with room for log and report."""
        if device:
            mount_device(device, MOUNTED)
            parent = MOUNTED + parent
        name, folder = self.new_folder(parent)
        with suppress(NoRoom):
            make_room(parent, name, min(self.settings.free, LOG_ROOM), self.say)
        return name, folder

    def new_folder(self, parent: str) -> tuple[str, str]:
        """(name, path). Another program that saves at the same time may take a name. Raises
        OSError."""
        tried = 0
        while True:
            name = new_name(self.crashed, names(parent))
            try:
                return name, make_folder(parent, name + INCOMPLETE)
            except FileExistsError:
                tried += 1
                if tried == NAMES_TRIED:
                    raise

    @property
    def crashed(self) -> datetime:
        """The time of the crash, or the present time if unknown."""
        return datetime.fromtimestamp(self.facts.crashed or time.time(), UTC)

    @property
    def parent(self) -> str | None:
        return os.path.dirname(self.where.folder) if self.where and self.where.folder else None

    # --- log and report --------------------------------------------------------------------------

    def save_log(self) -> None:
        """If the command does not accept it, the folder gets it and everything after it; if that
        fails too, the console does."""
        where = self.place
        self.step("log", lambda: self.write_log(where))
        if self.last_failed and where.command and where.folder:
            self.problems.append(f"{where.command[0]} failed; {where.folder} is used instead")
            self.where = where = replace(where, command=None)
            self.step("log", lambda: self.write_log(where))
        if self.last_failed:
            self.step("console", self.log_to_console)
        else:
            self.files.append(where.file_name(LOG))

    @property
    def place(self) -> Destination:
        assert self.where
        return self.where

    def write_log(self, where: Destination) -> None:
        with opened(where, LOG) as fd:
            for line in log_lines(self.source):
                write_all(fd, line + b"\n")

    def log_to_console(self) -> None:
        for line in log_lines(self.source)[-CONSOLE_LINES:]:
            self.say(line.decode())

    def save_report(self) -> None:
        def write(where: Destination) -> dict[str, Any]:
            from pykexec.dump.reader import open_dump
            from pykexec.dump.report import make_report

            report = make_report(open_dump(self.source))
            pages = self.pages(report)
            for name, data in pages.items():
                write_file(where, name, data)
            return {"names": list(pages), "reason": report.log.message if report.log else None}

        where = self.place
        found = self.step("report", lambda: write(where))
        if found:
            self.files += [where.file_name(name) for name in found["names"]]
            self.reason = found["reason"]
            self.say(f"reason: {self.reason or 'unknown'}")

    # --- the dump --------------------------------------------------------------------------------

    def save_dump(self) -> SavedFile | None:
        """Tries the methods in order. None if there is not enough space, or all of them fail."""
        for method in self.methods:
            write = self.write_makedumpfile if method == "makedumpfile" else self.write_copy
            lost = self.step(f"dump by {method}", write, self.settings.dump_time)
            if not self.last_failed:
                return self.verified(method, lost)
            self.step("remove the part of a dump", self.remove_part)
        return None

    @property
    def methods(self) -> Sequence[str]:
        """The methods that can be tried. makedumpfile may fail, for example for a newer kernel."""
        known = ("makedumpfile", "copy") if self.makedumpfile else ("copy",)
        if self.settings.method == "auto":
            return known
        if self.settings.method not in known:
            self.problems.append("makedumpfile is not installed; all memory is copied instead")
            return known
        return (self.settings.method,)

    def write_makedumpfile(self) -> None:
        program, flag = self.makedumpfile or "", self.facts.slab_flag
        by_makedumpfile(
            lambda path: dump_command(self.settings, program, self.source, path, flag),
            self.place,
            DUMP,
            self.watch(),
        )

    def write_copy(self) -> int:
        """Returns the number of pages that could not be read."""
        return by_copy(self.source, self.place, DUMP, self.watch())

    def watch(self) -> Watch:
        """Watches progress and free space: a folder is never filled beyond the limit."""
        where, progress = self.place, Progress(self.say)
        parent = None if where.command else self.parent

        def look(part: float | None, size: int | None) -> None:
            if progress.due():
                if parent:
                    make_room(parent, where.name, self.settings.free, self.say)
                progress.show(part, size)

        look(None, None)
        return look

    def remove_part(self) -> None:
        where = self.place
        if where.folder and not where.command:
            remove_file(f"{where.folder}/{where.file_name(DUMP)}")

    def verified(self, method: str, lost: int | None) -> SavedFile:
        where = self.place
        path = where.path(DUMP)
        level = level_for(self.settings, self.facts.slab_flag) if method == "makedumpfile" else None
        name = where.file_name(DUMP)
        if path is None:
            return SavedFile(name, method, level, None, None, None)
        found = self.step("verify", lambda: check_dump(path, self.source), self.settings.dump_time)
        size, problem = found or (None, self.steps[-1].problem)
        if lost and not problem:
            problem = f"{lost} pages could not be read"
        return SavedFile(name, method, level, size, problem is None, problem)

    # --- the end ---------------------------------------------------------------------------------

    def finish(self, dump: SavedFile | None) -> SavedDump:
        """Write status.json, remove .incomplete from the name, then remove old dumps."""
        status = self.status(dump)
        where = self.place
        if where.folder:
            self.step("status", lambda: self.write_status(status, where))
        if where.command:
            self.step("status for the command", lambda: write_file(where, STATUS, _encoded(status)))
        if self.parent:
            parent, keep = self.parent, self.settings.keep
            self.step("old dumps", lambda: remove_surplus(parent, keep, where.name))
        return self.status(dump)

    def write_status(self, status: SavedDump, where: Destination) -> None:
        """Not encrypted: it contains nothing of the machine's memory except the panic message."""
        folder = where.folder or ""
        write_file(Destination(where.name, folder), STATUS, _encoded(status))
        if status.complete:
            rename_folder(folder, folder.removesuffix(INCOMPLETE))

    def status(self, dump: SavedFile | None) -> SavedDump:
        where, failed = self.where, {step.name for step in self.steps if step.problem}
        needed = {where.file_name(LOG), where.file_name(REPORT)} if where else set()
        good = dump is not None and dump.problem is None
        complete = good and needed <= set(self.files) and "status" not in failed
        folder = where.folder if where else None
        return SavedDump(
            name=where.name if where else new_name(self.crashed, ()),
            folder=folder.removesuffix(INCOMPLETE) if folder and complete else folder,
            command=where.command[0] if where and where.command else None,
            encrypted=bool(where and where.recipient),
            release=self.facts.release,
            reason=self.reason,
            crashed=self.crashed.isoformat() if self.facts.crashed else None,
            saved=datetime.now(UTC).isoformat(timespec="seconds"),
            files=(*self.files, *((dump.name,) if dump else ())),
            dump=dump,
            complete=complete,
            steps=tuple(self.steps),
            problems=tuple(self.problems),
        )


def _encoded(status: SavedDump) -> bytes:
    from pykexec.documents.codec import encode

    return encode(status).encode()
