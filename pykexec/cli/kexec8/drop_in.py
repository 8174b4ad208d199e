"""The real kernel for kexec(8): the arguments of system calls can be shown, and everything up to
the system call works without privilege."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from pykexec.backends.backend import LoadState, NothingLoaded, Slot
from pykexec.backends.kernel.backend import KernelBackend
from pykexec.cli.kexec8.say import say
from pykexec.cli.kexec8.shown import Given
from pykexec.host.console import named
from pykexec.host.facts import read_machine
from pykexec.host.lock import RUN_FOLDER
from pykexec.host.root import THIS_MACHINE

if TYPE_CHECKING:
    from pykexec.abi.kexec import KexecFileFlag
    from pykexec.backends.kernel.calls import KernelCalls
    from pykexec.images.contents import Contents, OpenFile
    from pykexec.machine import Machine, SerialConsole, Unknown

WITHOUT_SYMBOLS = partial(read_machine, symbols=False)
UART_HERE = partial(named, THIS_MACHINE)


class DropInKernel(KernelBackend):
    """`given` has the last arguments of kexec_load(2); `debug` shows them before the call. `uart`
    finds that of a tty."""

    def __init__(
        self,
        calls: KernelCalls,
        folder: Path = RUN_FOLDER,
        debug: bool = False,
        facts: Callable[[], Machine] = WITHOUT_SYMBOLS,
        uart: Callable[[str], SerialConsole | Unknown | None] = UART_HERE,
    ) -> None:
        super().__init__(calls, folder, facts)
        self.debug, self.uart = debug, uart
        self.given: Given | None = None

    @cached_property
    def read_once(self) -> Machine:
        return self.facts()

    def machine(self) -> Machine:
        """Read once: a load does not change the facts for a plan."""
        return self.read_once

    @contextmanager
    def session(self) -> Iterator[None]:
        """Without root there is no lock to hold, and no load either: the kernel refuses."""
        if os.geteuid() != 0:
            yield
            return
        with super().session():
            yield

    def refuse_replacing(self, slot: Slot) -> None:
        if os.geteuid() == 0:
            super().refuse_replacing(slot)

    def announce(
        self, entry: int, segments: Sequence[tuple[int, int, int, int]], flags: int
    ) -> None:
        self.given = Given(entry, tuple(segments), flags)
        if self.debug:
            say(self.given.before())

    def file_load(
        self, kernel: OpenFile, initrd: Contents | None, cmdline: bytes, flags: KexecFileFlag
    ) -> None:
        if self.debug:
            size = initrd.size if initrd else 0
            text = cmdline.decode(errors="backslashreplace")
            say([f"kexec_file_load: {kernel.path} initrd size: {size:#x} flags = {int(flags):#x}"])
            say([f"command line: {text}"])
        super().file_load(kernel, initrd, cmdline, flags)

    def require_loaded(self) -> None:
        """Check that there is a normal image, and that its stage is intact; unknown counts as not
        loaded. Raises NothingLoaded, StageChanged."""
        state = self.status()[Slot.NORMAL]
        if state is not LoadState.LOADED:
            raise NothingLoaded(f"the normal image is {state}", hint="load an image with -l first")
        record = self.records.read()
        if record and record.slot is Slot.NORMAL:
            self.check()
