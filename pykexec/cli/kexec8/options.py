"""Every option of kexec(8) for x86_64 as data: the one table that the parser, --help and the
man page's test read. `since` is the kexec-tools release that brought an option."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What becomes of an option here."""

    SERVED = "does what it says"
    ALREADY = "what it asks for is so anyway"
    NOTED = "without meaning here: accepted, and said so on stderr"
    REFUSED = "refused, with the reason"


@dataclass(frozen=True, slots=True)
class Option:
    """One option. `argument` is the name of its argument, "" for none; `why` is the reason
    of a note or a refusal; synonyms have the same `field`."""

    long: str
    short: str = ""
    argument: str = ""
    field: str = ""
    help: str = ""
    kind: Kind = Kind.SERVED
    why: str = ""
    repeatable: bool = False
    since: str = ""

    @property
    def key(self) -> str:
        """Under which name parsed values are kept."""
        return self.field or self.long.replace("-", "_")


NEXT = "after 2.0.32"
NO_SCREEN = "the purgatory of pykexec touches no screen"
OWN_SERIAL = (
    "the purgatory of pykexec always writes to a serial port, that of the running kernel's console "
    "or of --serial"
)
NO_XEN = "it is for Xen, which takes another kernel alive by tools of its own"
NO_WAY_BACK = (
    "the purgatory of pykexec hands on no way back (kexec_jump_back_entry=), which the running "
    "kernel leaves only with CONFIG_KEXEC_JUMP; Debian's 6.1, 6.12 and 7.2 are built without"
)
NOTHING_TO_RETURN_TO = "pykexec starts no kernel that could jump back (--load-preserve-context)"

GENERAL = (
    Option("help", "h", help="Print this help."),
    Option("version", "v", help="Print the version."),
    Option("force", "f", help="Load and start at once, without shutdown(8)."),
    Option("no-checks", "i", help="The purgatory compares no digests."),
    Option(
        "no-ifdown",
        "x",
        help="Don't bring down network interfaces.",
        kind=Kind.ALREADY,
        why="the network is never touched",
    ),
    Option("no-sync", "y", help="Don't sync file systems before a start."),
    Option("load", "l", help="Load the new kernel, and no more."),
    Option("load-panic", "p", help="Load the new kernel for use on panic."),
    Option("unload", "u", help="Free the loaded kernel; with -p the one for a panic."),
    Option("exec", "e", help="Start the loaded kernel."),
    Option(
        "exec-live-update",
        help="Start a loaded Xen.",
        kind=Kind.REFUSED,
        why=NO_XEN,
        since="2.0.21",
    ),
    Option("type", "t", "TYPE", help="The new kernel is of this type."),
    Option("mem-min", argument="ADDR", help="Lowest address to load into."),
    Option("mem-max", argument="ADDR", help="Highest address to load into, inclusive."),
    Option(
        "reuseinitrd",
        help="Reuse the initrd of the first boot.",
        kind=Kind.REFUSED,
        why="not implemented on this architecture: x86 gives its initrd's memory back",
    ),
    Option("print-ckr-size", help="Print the size of the crash kernel's region.", since="2.0.12"),
    Option(
        "load-preserve-context",
        help="Load a kernel that can jump back to this one.",
        kind=Kind.REFUSED,
        why=NO_WAY_BACK,
    ),
    Option(
        "load-jump-back-helper",
        help="Load a helper that jumps back.",
        kind=Kind.REFUSED,
        why=NOTHING_TO_RETURN_TO,
    ),
    Option(
        "load-live-update",
        help="Load a Xen over the running one.",
        kind=Kind.REFUSED,
        why=NO_XEN,
        since="2.0.21",
    ),
    Option("entry", argument="ADDR", help="Start here and not at the purgatory."),
    Option("kexec-file-syscall", "s", field="file", help="Only kexec_file_load(2).", since="2.0.8"),
    Option("kexec-syscall", "c", field="classic", help="Only kexec_load(2)."),
    Option(
        "kexec-syscall-auto",
        "a",
        field="auto",
        help="The first, and the second where needed (default).",
        since="2.0.17",
    ),
    Option("debug", "d", help="Say what goes where, and what the kernel is given."),
    Option("status", "S", help="1 if an image for a panic (-l: a normal one) is loaded."),
    Option("hotplug", help="Let the kernel keep its ELF core headers up to date.", since="2.0.28"),
    Option("no-cma", help="No contiguous memory for a loaded file.", since=NEXT),
    Option(
        "force-dtb",
        help="kexec_file_load(2) passes the device tree on, ACPI or not.",
        since=NEXT,
    ),
)
"""Of every architecture, in the order of kexec's usage."""

X86 = (
    Option(
        "command-line",
        argument="STRING",
        field="append",
        help="Words for the command line.",
        repeatable=True,
    ),
    Option("append", argument="STRING", help="The same.", repeatable=True),
    Option("reuse-cmdline", help="Start from the running kernel's command line."),
    Option("initrd", argument="FILE", help="An initrd; several are joined.", repeatable=True),
    Option("ramdisk", argument="FILE", field="initrd", help="The same.", repeatable=True),
    Option(
        "module",
        argument='"FILE ARGS"',
        help="A file for a multiboot image, and its string.",
        repeatable=True,
    ),
    Option("entry-32bit", help="Start a bzImage by its 32-bit entry."),
    Option("real-mode", help="Start a bzImage by its real-mode entry: it asks the BIOS again."),
    Option("args-linux", help="Start an ELF file by the Linux protocol."),
    Option("args-elf", help="Pass ELF boot notes to an ELF file."),
    Option("args-none", help="Start an ELF file directly."),
    Option("noefi", help="Don't hand EFI on to the next kernel."),
    Option("reset-vga", help="Reset a VGA device.", kind=Kind.NOTED, why=NO_SCREEN),
    Option("console-vga", help="Messages on the VGA.", kind=Kind.NOTED, why=NO_SCREEN),
    Option(
        "console-serial", help="Messages on the serial port.", kind=Kind.ALREADY, why=OWN_SERIAL
    ),
    Option(
        "serial",
        argument="PORT",
        help="The port for messages: ttyS0 to ttyS3, or 0xPORT.",
    ),
    Option(
        "serial-baud",
        argument="RATE",
        help="Its speed.",
        kind=Kind.NOTED,
        why="the serial port keeps the speed that it has",
    ),
    Option(
        "elf32-core-headers",
        help="ELF core headers of 32 bits.",
        kind=Kind.NOTED,
        why="they have 64 bits on x86_64, as kexec-tools makes them too",
    ),
    Option(
        "elf64-core-headers",
        help="ELF core headers of 64 bits.",
        kind=Kind.ALREADY,
        why="they have 64 bits",
    ),
    Option(
        "pass-memmap-cmdline",
        help="Tell a capture kernel its memory by memmap=.",
        kind=Kind.NOTED,
        why="its memory is in boot_params, which every kernel with a 64-bit entry reads",
    ),
    Option(
        "reuse-video-type",
        help="Take over the type of the screen.",
        kind=Kind.ALREADY,
        why="all of screen_info is taken over",
    ),
    Option(
        "dtb",
        argument="FILE",
        help="A device tree.",
        kind=Kind.NOTED,
        why="x86 boots without a device tree",
    ),
)
"""Of x86, from all its image types."""

OPTIONS = GENERAL + X86
BY_LONG = {option.long: option for option in OPTIONS}
BY_SHORT = {option.short: option for option in OPTIONS if option.short}
ADDRESSES = ("mem_min", "mem_max", "entry")
"""Fields whose values are numbers as strtoul(3) with base 0 reads them."""
