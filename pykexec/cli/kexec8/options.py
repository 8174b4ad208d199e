"""Every option of kexec(8) for x86_64 and arm64 as data: the single table for the parser, --help
and the test of the man page. `since` is the kexec-tools release that added an option."""

from __future__ import annotations

from enum import Enum

from pykexec.frozen import dataclass


class Handling(Enum):
    """How an option is handled."""

    SERVED = "has its effect"
    ALREADY = "asks for what is always the case"
    NOTED = "has no effect: accepted, with a note on stderr"
    REFUSED = "is an error, with the reason"


@dataclass(frozen=True, slots=True)
class Option:
    """One option. `argument` is the name of its argument, "" for none; `why` is the reason for a
    note or an error; synonyms have the same `field`."""

    long: str
    short: str = ""
    argument: str = ""
    field: str = ""
    help: str = ""
    handling: Handling = Handling.SERVED
    why: str = ""
    repeatable: bool = False
    since: str = ""

    @property
    def key(self) -> str:
        """The name of its parsed value."""
        return self.field or self.long.replace("-", "_")


NEXT = "after 2.0.32"
NO_SCREEN = "the purgatory of pykexec does not write to the screen"
OWN_SERIAL = (
    "the purgatory of pykexec always writes to a serial port: the console of the running "
    "kernel, or --serial"
)
NO_XEN = "live update of Xen is done by Xen's own tools"
NO_WAY_BACK = (
    "the purgatory of pykexec does not pass on kexec_jump_back_entry=, and the running "
    "kernel needs CONFIG_KEXEC_JUMP, which is not set in Debian's 6.1, 6.12 and 7.2"
)
NOTHING_TO_RETURN_TO = "pykexec does not start kernels that can jump back (--load-preserve-context)"

GENERAL = (
    Option("help", "h", help="Print this help and exit."),
    Option("version", "v", help="Print the version and exit."),
    Option("force", "f", help="Load the new kernel and start it without shutdown(8)."),
    Option("no-checks", "i", help="Skip digest verification in purgatory."),
    Option(
        "no-ifdown",
        "x",
        help="Do not bring down network interfaces.",
        handling=Handling.ALREADY,
        why="the network is never touched",
    ),
    Option("no-sync", "y", help="Do not sync file systems before starting the kernel."),
    Option("load", "l", help="Load the new kernel without starting it."),
    Option("load-panic", "p", help="Load the new kernel for use on panic."),
    Option("unload", "u", help="Unload the kernel; with -p, the kernel for a panic."),
    Option("exec", "e", help="Start the loaded kernel."),
    Option(
        "exec-live-update",
        help="Start a loaded Xen hypervisor.",
        handling=Handling.REFUSED,
        why=NO_XEN,
        since="2.0.21",
    ),
    Option("type", "t", "TYPE", help="Treat the new kernel as an image of TYPE."),
    Option("mem-min", argument="ADDR", help="Place nothing below ADDR."),
    Option("mem-max", argument="ADDR", help="Place nothing above ADDR (inclusive)."),
    Option(
        "reuseinitrd",
        help="Reuse the initrd of the first boot.",
        handling=Handling.REFUSED,
        why="not implemented on this architecture: x86 kernels free the memory of their initrd",
    ),
    Option("print-ckr-size", help="Print the size of the crash region.", since="2.0.12"),
    Option(
        "load-preserve-context",
        help="Load a kernel that can jump back to this one.",
        handling=Handling.REFUSED,
        why=NO_WAY_BACK,
    ),
    Option(
        "load-jump-back-helper",
        help="Load a helper that jumps back.",
        handling=Handling.REFUSED,
        why=NOTHING_TO_RETURN_TO,
    ),
    Option(
        "load-live-update",
        help="Load a Xen hypervisor to replace the running one.",
        handling=Handling.REFUSED,
        why=NO_XEN,
        since="2.0.21",
    ),
    Option("entry", argument="ADDR", help="Start at ADDR instead of the purgatory."),
    Option("kexec-file-syscall", "s", field="file", help="Use kexec_file_load(2).", since="2.0.8"),
    Option("kexec-syscall", "c", field="classic", help="Use kexec_load(2)."),
    Option(
        "kexec-syscall-auto",
        "a",
        field="auto",
        help="Use kexec_file_load(2), or kexec_load(2) if needed (default).",
        since="2.0.17",
    ),
    Option("debug", "d", help="Print what is loaded where, and the arguments of kexec_load(2)."),
    Option("status", "S", help="Exit with 1 if an image for a panic (-l: a normal one) is loaded."),
    Option("hotplug", help="Let the kernel follow memory and CPU hotplug.", since="2.0.28"),
    Option("no-cma", help="Do not use contiguous memory for a loaded file.", since=NEXT),
    Option(
        "force-dtb",
        help="Pass on the device tree even if there is ACPI.",
        since=NEXT,
    ),
)
"""Options for all architectures, in the order of kexec's usage."""

X86 = (
    Option(
        "command-line",
        argument="STRING",
        field="append",
        help="Add STRING to the command line.",
        repeatable=True,
    ),
    Option("append", argument="STRING", help="The same.", repeatable=True),
    Option("reuse-cmdline", help="Start with the command line of the running kernel."),
    Option(
        "initrd",
        argument="FILE",
        help="Load FILE as the initrd. Repeatable; the files are concatenated.",
        repeatable=True,
    ),
    Option("ramdisk", argument="FILE", field="initrd", help="The same.", repeatable=True),
    Option(
        "module",
        argument='"FILE ARGS"',
        help="Pass a file and its arguments to a multiboot image.",
        repeatable=True,
    ),
    Option("entry-32bit", help="Start a bzImage by its 32-bit entry."),
    Option("real-mode", help="Start a bzImage by its real-mode entry, which queries the BIOS."),
    Option("args-linux", help="Start an ELF file by the Linux boot protocol."),
    Option("args-elf", help="Pass ELF boot notes to an ELF file."),
    Option("args-none", help="Start an ELF file directly, without the purgatory."),
    Option("noefi", help="Do not pass on EFI services to the new kernel."),
    Option("reset-vga", help="Reset a VGA device.", handling=Handling.NOTED, why=NO_SCREEN),
    Option(
        "console-vga", help="Write messages to the VGA.", handling=Handling.NOTED, why=NO_SCREEN
    ),
    Option(
        "console-serial",
        help="Write messages to the serial port.",
        handling=Handling.ALREADY,
        why=OWN_SERIAL,
    ),
    Option(
        "serial",
        argument="PORT",
        help="Write messages to PORT: ttyS0 to ttyS3, or 0xPORT; on arm64 ttyAMA0.",
    ),
    Option(
        "serial-baud",
        argument="RATE",
        help="Set the speed of the serial port.",
        handling=Handling.NOTED,
        why="the speed of the serial port is not changed",
    ),
    Option(
        "elf32-core-headers",
        help="Use 32-bit ELF core headers.",
        handling=Handling.NOTED,
        why="on x86_64 the headers are 64-bit, as in kexec-tools",
    ),
    Option(
        "elf64-core-headers",
        help="Use 64-bit ELF core headers.",
        handling=Handling.ALREADY,
        why="the headers are always 64-bit",
    ),
    Option(
        "pass-memmap-cmdline",
        help="Pass the memory of a capture kernel in memmap=.",
        handling=Handling.NOTED,
        why="the memory map is in boot_params, which every kernel with a 64-bit entry reads",
    ),
    Option(
        "reuse-video-type",
        help="Pass on the type of the screen.",
        handling=Handling.ALREADY,
        why="the whole screen_info is always passed on",
    ),
    Option(
        "dtb",
        argument="FILE",
        help="Pass FILE as the device tree (arm64).",
    ),
)
"""Options for x86, from all its image types, among which are those for arm64."""

OPTIONS = GENERAL + X86
BY_LONG = {option.long: option for option in OPTIONS}
BY_SHORT = {option.short: option for option in OPTIONS if option.short}
ADDRESSES = ("mem_min", "mem_max", "entry")
"""Fields whose values are numbers for strtoul(3) with base 0."""
