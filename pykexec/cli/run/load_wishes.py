"""Converts the options of `load` to a request for a flow."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from pykexec.frozen import dataclass
from pykexec.images.device_tree_file import device_tree_file
from pykexec.images.module_file import module_contents
from pykexec.placement.request import ImageKind, Keep, LoadRequest, Mode, Module
from pykexec.placement.syscall_choice import Syscall, SyscallChoice, choose_syscall

if TYPE_CHECKING:
    from pykexec.cli.run.load_options import LoadOptions
    from pykexec.machine import Machine


@dataclass(frozen=True)
class LoadWishes:
    """Files are opened once, when they are first needed."""

    given: LoadOptions

    @property
    def kind(self) -> ImageKind:
        if self.given.crash_by_normal:
            return ImageKind.CRASH_BY_NORMAL
        return ImageKind.CRASH if self.given.crash else ImageKind.NORMAL

    @property
    def request(self) -> LoadRequest:
        """The complete request. Raises UnreadableFile."""
        return replace(self.without_initrd, initrd=self.given.initrd)

    @cached_property
    def without_initrd(self) -> LoadRequest:
        """The request without large files to read. Raises what `module_contents` raises."""
        given = self.given
        return LoadRequest(
            kind=self.kind,
            modules=tuple(Module(module_contents(line), line) for line in given.modules),
            dtb=device_tree_file(given.dtb),
            append=given.append,
            reuse_cmdline=given.reuse_cmdline,
            cmdline_remove=given.cmdline_remove,
            mem_min=given.mem_min,
            mem_max=given.mem_max,
            crash_size=given.crash_size,
            mode=Mode(given.mode) if given.mode else None,
            keep=Keep(given.keep) if given.keep else Keep.ALL,
            replaces=given.replaces,
            settle=given.settle,
            entry=given.entry,
            hotplug=given.hotplug,
            initrd_check=not given.no_initrd_check,
            checks=not given.no_checks,
            profile=given.profile,
        )

    @property
    def chosen_syscall(self) -> Syscall | None:
        """The one that the user wants; None for any."""
        return None if self.given.syscall == "auto" else Syscall(self.given.syscall)

    def syscall(self, machine: Machine) -> SyscallChoice | None:
        """Which system call to use on the real kernel, and why; the simulated one has only one."""
        given = self.given
        if given.backend != "kernel":
            return None
        return choose_syscall(machine, self.without_initrd, self.chosen_syscall, given.image_type)
