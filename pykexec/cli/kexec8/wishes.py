"""The meaning of kexec(8)'s command line as one value: the verb, the slot, and a request for the
flow.

Each combination has one meaning, independent of the order, or is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path

from pykexec.cli.kexec8.options import Handling
from pykexec.cli.kexec8.parse import BadCommandLine, Words, parse
from pykexec.frozen import dataclass
from pykexec.host.console import LEGACY_PORTS
from pykexec.purgatory import LAST_PORT


class Do(Enum):
    """The verb, in order of precedence."""

    HELP = "help"
    VERSION = "version"
    REGION_SIZE = "print-ckr-size"
    STATUS = "status"
    UNLOAD = "unload"
    EXEC = "exec"
    LOAD = "load"
    LOAD_AND_EXEC = "force"
    LOAD_AND_REBOOT = "KERNEL"
    """A kernel and no verb: load, then shutdown(8)."""


class Call(Enum):
    """Which system call loads."""

    FILE = "-s"
    CLASSIC = "-c"
    AUTO = "-a"


class RefusedOption(BadCommandLine):
    """An option of kexec(8) that is not supported here."""

    code = "refused-option"


class BadSerial(BadCommandLine):
    """A serial port that this machine does not have."""

    def __init__(
        self, asked: str, use: str = "ttyS0 to ttyS3, or an I/O port such as 0x3f8"
    ) -> None:
        super().__init__(f"Bad serial port base '{asked}'", hint=f"use {use}")


class NoKernel(BadCommandLine):
    """A load without a file."""

    exit_status = 255


@dataclass(frozen=True)
class Wishes:
    """The names are those of the options."""

    do: Do
    panic: bool
    """The slot of the crash image."""
    call: Call
    debug: bool
    sync: bool
    kernel: Path | None
    type: str | None
    append: tuple[str, ...]
    reuse_cmdline: bool
    initrds: tuple[Path, ...]
    modules: tuple[str, ...]
    dtb: Path | None
    mem_min: int | None
    mem_max: int | None
    entry: int | None
    checks: bool
    hotplug: bool
    no_cma: bool
    force_dtb: bool
    efi: bool
    real_mode: bool
    serial: str | None
    args: str | None
    """"linux", "elf" or "none": how to start an ELF file, if given."""
    notes: tuple[str, ...]
    """Notes about accepted options without effect."""

    @property
    def loads(self) -> bool:
        return self.do in (Do.LOAD, Do.LOAD_AND_EXEC, Do.LOAD_AND_REBOOT)


def wishes(words: Sequence[str]) -> Wishes:
    """What the command line asks for. Raises BadCommandLine."""
    given = parse(words)
    do = verb(given)
    if do not in (Do.HELP, Do.VERSION, Do.REGION_SIZE):
        _refuse(given)
    panic = given.has("load_panic") or (do is Do.STATUS and not given.has("load"))
    if given.has("entry_32bit") and given.has("real_mode"):
        raise BadCommandLine("--entry-32bit and --real-mode exclude each other")
    implied = "bzImage" if given.has("entry_32bit") or given.has("real_mode") else None
    made = Wishes(
        do=do,
        panic=panic,
        call=call(given),
        debug=given.has("debug"),
        sync=not given.has("no_sync"),
        kernel=given.kernel,
        type=implied if given.one("type") is None else given.one("type"),
        append=given.all("append"),
        reuse_cmdline=given.has("reuse_cmdline"),
        initrds=given.files("initrd"),
        modules=given.all("module"),
        dtb=next(iter(given.files("dtb")), None),
        mem_min=given.address("mem_min"),
        mem_max=given.address("mem_max"),
        entry=given.address("entry"),
        checks=not given.has("no_checks"),
        hotplug=given.has("hotplug"),
        no_cma=given.has("no_cma"),
        force_dtb=given.has("force_dtb"),
        efi=not given.has("noefi"),
        real_mode=given.has("real_mode"),
        serial=serial_name(given.one("serial")),
        args=style(given),
        notes=tuple(notes(given)),
    )
    if made.loads:
        _check_load(made)
    return made


def verb(given: Words) -> Do:
    """The verb from all given options, in any order."""
    for do in (Do.HELP, Do.VERSION):
        if given.has(do.value):
            return do
    if len(given.operands) > 1:
        raise BadCommandLine(f"more than one kernel is given: also {given.operands[1]}")
    if given.has("print_ckr_size"):
        return Do.REGION_SIZE
    if given.has("status"):
        return Do.STATUS
    load = given.has("load") or given.has("load_panic")
    starts = given.has("exec") or given.has("force")
    if given.has("unload"):
        _exclude(given, starts or bool(given.operands), "unload")
        return Do.UNLOAD
    if load:
        _exclude(given, starts, "load-panic" if given.has("load_panic") else "load")
        return Do.LOAD
    if given.has("exec"):
        _exclude(given, bool(given.operands), "exec")
        return Do.EXEC
    return Do.LOAD_AND_EXEC if given.has("force") else Do.LOAD_AND_REBOOT


def _exclude(given: Words, contradicted: bool, option: str) -> None:
    """kexec-tools uses the last one; here nothing depends on the order."""
    if contradicted:
        other = next((name for name in ("exec", "force") if given.has(name)), None)
        what = f"--{other}" if other and other != option else given.operands[0]
        raise BadCommandLine(
            f"--{option} and {what} exclude each other", hint="run the program twice"
        )


def _refuse(given: Words) -> None:
    for option in given.given:
        if option.handling is Handling.REFUSED:
            raise RefusedOption(f"--{option.long}: {option.why}", hint=hint(option.long))


def hint(name: str) -> str:
    hints = {
        "load-preserve-context": (
            "to read the memory of this kernel in the next one, use pykexec load --crash-by-normal"
        ),
        "load-jump-back-helper": (
            "in a kernel that kexec-tools has started with it, use the kexec of kexec-tools"
        ),
        "reuseinitrd": "use --initrd with the file of the initrd",
    }
    return hints.get(name, "see man pykexec-kexec")


def call(given: Words) -> Call:
    asked = [name for name in ("file", "classic", "auto") if given.has(name)]
    if len(asked) > 1:
        raise BadCommandLine("-s, -c and -a exclude each other")
    calls = {"file": Call.FILE, "classic": Call.CLASSIC}
    return calls.get(asked[0], Call.AUTO) if asked else Call.AUTO


def serial_name(asked: str | None) -> str | None:
    """The argument of --serial: a tty or an I/O port. Raises BadCommandLine for anything else."""
    if asked is None or re.fullmatch(r"tty[A-Za-z]{1,8}\d{1,3}", asked):
        return asked
    if re.fullmatch(r"0x[0-9a-fA-F]{1,4}", asked) and 0 < int(asked, 16) <= LAST_PORT:
        return asked
    raise BadSerial(asked)


def legacy_port(asked: str) -> int:
    """Its I/O port on x86, as in kexec-tools, which has two of these names. Raises
    BadCommandLine."""
    if asked.startswith("0x"):
        return int(asked, 16)
    if re.fullmatch(r"ttyS[0-3]", asked):
        return LEGACY_PORTS[int(asked[-1])]
    raise BadSerial(asked)


def style(given: Words) -> str | None:
    asked = [name for name in ("linux", "elf", "none") if given.has(f"args_{name}")]
    if len(asked) > 1:
        raise BadCommandLine("--args-linux, --args-elf and --args-none exclude each other")
    return asked[0] if asked else None


def notes(given: Words) -> Iterator[str]:
    """A note for each option without effect: none is ignored silently."""
    for option in given.given:
        if option.handling is Handling.NOTED:
            yield f"--{option.long} has no effect: {option.why}"
    if len(given.all("append")) > 1:
        yield "all command lines are joined in their order"


def _check_load(made: Wishes) -> None:
    if made.kernel is None:
        raise NoKernel("No kernel specified", hint="see pykexec-kexec --help")
    if made.hotplug and not made.panic:
        raise BadCommandLine("--hotplug requires --load-panic")
    if made.call is Call.FILE:
        ignored = {
            "--mem-min": made.mem_min is not None,
            "--mem-max": made.mem_max is not None,
            "--entry": made.entry is not None,
            "--module": bool(made.modules),
            "--dtb": made.dtb is not None,
            "--real-mode": made.real_mode,
            "--type": made.type is not None,
            "--args-none": made.args == "none",
        }
        for name, there in ignored.items():
            if there:
                raise BadCommandLine(
                    f"{name} has no effect with -s: the kernel places the image",
                    hint="use -c or -a",
                )
