"""The options of `load` as one value, and which of them contradict each other.

This imports little: a large initrd is read while the rest of the program is imported."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from pykexec.errors import NotSupported, UsageError
from pykexec.frozen import dataclass
from pykexec.images.contents import Contents, joined_initrd
from pykexec.images.digest_ahead import digest_ahead


@dataclass(frozen=True)
class LoadOptions:
    """The options as parsed by click, with their names."""

    initrds: tuple[Path, ...]
    modules: tuple[str, ...]
    dtb: Path | None
    append: tuple[str, ...]
    reuse_cmdline: bool
    cmdline_remove: tuple[str, ...]
    mem_min: int | None
    mem_max: int | None
    crash: bool
    crash_by_normal: bool
    crash_size: int | None
    mode: str | None
    keep: str | None
    replaces: bool
    settle: int | None
    region: str | None
    hotplug: bool
    image_type: str | None
    profile: int | None
    entry: int | None
    no_initrd_check: bool
    no_checks: bool
    syscall: str
    backend: str
    machine_dir: Path | None
    root: Path | None
    dry_run: bool
    as_json: bool
    verbose: int

    @property
    def may_make_region(self) -> bool:
        """Whether the load makes a crash region, if one is missing."""
        return self.crash_by_normal and self.backend == "kernel" and self.region != "never"

    @cached_property
    def initrd(self) -> Contents | None:
        """The initrds, opened, with reading started. Raises UnreadableFile."""
        given_to_kernel = self.backend == "kernel" and not (self.dry_run or self.crash_by_normal)
        return digest_ahead(joined_initrd(self.initrds), copy=given_to_kernel)

    def open_files(self) -> None:
        """Open files as early as possible: reading continues in parallel."""
        _ = self.initrd

    def check(self) -> None:
        """Refuse an option without effect (UsageError), or one that the backend does not support
        (NotSupported)."""
        self.check_companions()
        self.check_syscall()
        self.check_mode()

    def check_companions(self) -> None:
        """Check options that require or exclude another."""
        rules = (
            (
                self.crash and self.crash_by_normal,
                "--crash and --crash-by-normal exclude each other",
            ),
            (bool(self.mode) and not self.crash_by_normal, "--mode is for --crash-by-normal"),
            (
                self.keep is not None and not (self.crash_by_normal and self.backend == "kernel"),
                "--keep is for --crash-by-normal with --backend kernel",
            ),
            (
                self.keep is not None and self.mode is not None,
                "--keep and --mode exclude each other: --keep chooses the mode",
            ),
            (
                self.crash_size is not None and not self.crash_by_normal,
                "--crash-size is for --crash-by-normal",
            ),
            (self.replaces and not self.crash_by_normal, "--replace is for --crash-by-normal"),
            (
                self.region is not None and not (self.crash_by_normal and self.backend == "kernel"),
                "--region is for --crash-by-normal with --backend kernel",
            ),
            (
                self.settle is not None and not (self.crash_by_normal and self.backend == "kernel"),
                "--settle is for --crash-by-normal with --backend kernel",
            ),
            (
                self.settle is not None and self.mode == "kernel-swap",
                "--settle has no effect in mode kernel-swap: the kernel moves the pages",
            ),
            (
                self.no_initrd_check and not (self.crash or self.crash_by_normal),
                "--no-initrd-check is for --crash and --crash-by-normal: other loads only warn",
            ),
            (self.hotplug and not self.crash, "--hotplug is for --crash"),
            (
                bool(self.cmdline_remove) and not self.reuse_cmdline,
                "--cmdline-remove requires --reuse-cmdline",
            ),
            (self.root is not None and not self.dry_run, "--root is for --dry-run"),
            (
                self.root is not None and self.machine_dir is not None,
                "--root and --machine exclude each other",
            ),
        )
        for broken, message in rules:
            if broken:
                raise UsageError(message, hint="see pykexec load --help")

    def check_mode(self) -> None:
        """The simulated kernel has the flag of the proposal; stock kernels do not."""
        if not self.crash_by_normal:
            return
        if self.backend == "kernel" and self.mode == "flag":
            raise NotSupported(
                "mode flag: no stock kernel supports KEXEC_CRASH_BY_NORMAL",
                hint="use --backend simulated",
            )
        if self.backend == "simulated" and self.replaces:
            raise NotSupported(
                "--replace is for the real kernel",
                hint="use --backend kernel; on a simulated machine every load replaces the old one",
            )
        if self.backend == "simulated" and self.mode not in (None, "flag"):
            raise NotSupported(
                f"mode {self.mode} is for the real kernel",
                hint="use --backend kernel, or --mode flag, which the simulated kernel supports",
            )

    def check_syscall(self) -> None:
        """The simulated kernel has only kexec_load."""
        if self.backend == "simulated" and self.syscall == "file":
            raise NotSupported(
                "the simulated kernel has no kexec_file_load", hint="use --syscall load"
            )
