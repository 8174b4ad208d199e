"""`VM.run`: shell scripts for a first and a second kernel in, a `Result` out."""

from __future__ import annotations

import tempfile
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pykexec.qemu.board import ONE_THREAD

from .initramfs import GUEST, Contents, Tree, base_part
from .machine import PC, VIRT, Board, Machine, Qmp, Result
from .python import compile_tree, python_part, site_part
from .supplies import Kernel, program, qemu


@dataclass(frozen=True)
class Guest:
    """The contents of a guest: the script that it runs, and what the script needs.

    Python is /bin/python3; `site` folders are merged into /site (a folder that is itself a package
    keeps its name), which is on sys.path; `programs` go to /bin; `files` are keyed by their path in
    the guest.
    """

    script: str
    python: bool = False
    site: tuple[Path, ...] = ()
    programs: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    files: Mapping[str, Contents] | None = None

    def parts(self, kernel: Kernel, stage: str) -> list[bytes]:
        """The archives that make up the initramfs."""
        own = Tree()
        script = textwrap.dedent(self.script).lstrip()
        shebang = "" if script.startswith("#!") else "#!/bin/sh -e\n"
        own.write("/payload", shebang + script, 0o755)
        own.write("/etc/stage", f"{stage}\n")
        own.write("/etc/control", f"{board_of(kernel).control_device}\n")
        own.write("/etc/disk", "/dev/vda\n" if stage == "first" else "/dev/vdb\n")
        for name in self.programs:
            own.add_program(program(name, kernel.architecture), kernel.architecture)
        parts = [base_part(kernel, self.modules)]
        if self.python or self.site:
            parts.append(python_part(kernel.architecture))
            own.copy(GUEST, "/lab/guest")
        parts += [site_part(folder) for folder in self.site]
        own.put(self.files or {})
        compile_tree(own)
        return [*parts, own.archive()]


def board_of(kernel: Kernel) -> Board:
    """The machine that runs a kernel; a Cortex-A57 has no pages of 16 KiB."""
    if kernel.architecture != "arm64":
        return PC
    return replace(VIRT, cpu="neoverse-n1") if kernel.series == "16k" else VIRT


def drives(disks: Sequence[Path]) -> list[str]:
    """QEMU options for more disks."""
    options = [f"if=virtio,format=raw,cache=unsafe,file={disk}" for disk in disks]
    return [word for option in options for word in ("-drive", option)]


@dataclass(frozen=True)
class VM:
    """A kernel to boot, and a folder for results, with a separate folder for each run."""

    kernel: Kernel
    folder: Path

    def run(
        self,
        first: str,
        second: str | None = None,
        *,
        append: str = "",
        mem_mib: int = 1024,
        smp: int = 1,
        cpu: str = "",
        accel: str = ONE_THREAD,
        python: bool = False,
        second_python: bool = False,
        site: Sequence[Path] = (),
        programs: Sequence[str] = (),
        modules: Sequence[str] = (),
        files: Mapping[str, Contents] | None = None,
        second_files: Mapping[str, Contents] | None = None,
        second_kernel: Kernel | None = None,
        firmware: Path | None = None,
        disks: Sequence[Path] = (),
        timeout_s: float = 300,
        on_mark: Callable[[str, Qmp], object] | None = None,
        on_console: Callable[[str, Qmp], object] | None = None,
        arguments: Sequence[str] = (),
    ) -> Result:
        """Run `first` in the first kernel, and `second` in the kernel that it starts.

        Both are shell scripts (`sh -e` unless they start with #!) with busybox, an empty folder
        /out, and the commands `host`, `copyout` and `copyin` (see guest/). The run ends with the
        exit status of the script that finishes. /boot/vmlinuz and /boot/initrd2 are for the second
        kernel. `append` is added to the command line, after that of the board; `cpu` is QEMU's
        name, empty for that of the board.

        `python` adds this Python to the first guest, together with the `site` folders;
        `second_python` does the same for the second. `programs` and `modules` are for both.

        `firmware` is an image for QEMU's -bios; without one a PC has SeaBIOS, and arm64 none.
        `disks` are raw images that the guest may write to, /dev/vdc and further.

        `on_mark` is called with the text of each `host mark`, `on_console` with each line of the
        console; both may send QMP commands. `arguments` are further QEMU options.
        """
        guest = Guest(first, python, tuple(site), tuple(programs), tuple(modules), files)
        parts = guest.parts(self.kernel, "first")
        if second is not None:
            kernel = second_kernel or self.kernel
            sites = guest.site if second_python else ()
            other = Guest(second, second_python, sites, guest.programs, guest.modules, second_files)
            boot = Tree()
            boot.copy(kernel.image, "/boot/vmlinuz")
            boot.write("/boot/initrd2", b"".join(other.parts(kernel, "second")))
            parts.append(boot.archive())
        board = board_of(self.kernel)
        results = Path(tempfile.mkdtemp(dir=self.folder, prefix="run-"))
        with tempfile.NamedTemporaryFile(prefix="pykexec-initrd-") as initrd:
            initrd.writelines(parts)
            initrd.flush()
            machine = Machine(
                qemu=qemu(board.program, board.package),
                board=board,
                kernel=self.kernel.image,
                initrd=Path(initrd.name),
                append=append,
                mem_mib=mem_mib,
                smp=smp,
                cpu=cpu,
                accel=accel,
                arguments=(
                    *(("-bios", str(firmware)) if firmware else ()),
                    *drives(disks),
                    *arguments,
                ),
            )
            return machine.run(results, timeout_s, on_mark, on_console)

    def initrd(self, script: str) -> bytes:
        """For a kernel after the second: busybox and a script."""
        return b"".join(Guest(script).parts(self.kernel, "second"))
