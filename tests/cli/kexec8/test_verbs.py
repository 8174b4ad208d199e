"""The calls, the output and the exit status of each verb."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from errno import EACCES, EINVAL, EKEYREJECTED, ENOEXEC, ENOSYS, ENOTSUP, EPERM
from pathlib import Path

import pytest

from pykexec.abi.kexec import KexecFileFlag, KexecFlag
from pykexec.backends.backend import LoadState, Slot
from pykexec.cli.kexec8.usage import VERSION
from pykexec.machine import Machine, Unknown
from tests.backends.kernel.calls import Calls
from tests.backends.kernel.test_record import RECORD
from tests.builders import MIB, make_elf, make_machine, make_vmlinux, write

from .conftest import CONFIG, REGION, Kexec, MadeUp

NO_FLAGS = KexecFlag(0)
DUMP = re.compile(
    r"nr_segments = (\d+)\n"
    r"((?:segment\[\d+\]\.buf   = (?:0x[0-9a-f]+|\(nil\))\n"
    r"segment\[\d+\]\.bufsz = 0x[0-9a-f]+\n"
    r"segment\[\d+\]\.mem   = 0x[0-9a-f]+\n"
    r"segment\[\d+\]\.memsz = 0x[0-9a-f]+\n)+)"
)


def set_loaded(kernel: MadeUp, slot: Slot = Slot.NORMAL) -> None:
    kernel.states[slot] = LoadState.LOADED


def test_load(kexec: Kexec, calls: Calls) -> None:
    result = kexec("-c -l bzImage --initrd=initrd --append=ro")
    (load,) = calls.loads
    assert (load.flags, load.cmdline, result.out, result.err) == (NO_FLAGS, "ro", "", "")
    assert any(data.startswith(b"070701") for _, _, data in load.segments)
    assert calls.others == []


@pytest.mark.parametrize("words", ["-c -l", "-s -l", "-a -l", "-c -p", "-s -p", "-a -p"])
def test_a_wrong_initrd_is_loaded_with_a_warning(kexec: Kexec, calls: Calls, words: str) -> None:
    """As kexec-tools does; the warning appears exactly once, whichever call loads."""
    result = kexec(f"{words} bzImage --initrd=bzImage --append=ro")
    assert len(calls.loads) + len(calls.files) == 1
    assert result.err.count("\n") == result.err.count("pykexec-kexec: warning: ")
    assert result.err.count("bzImage: not an initrd but a Linux kernel (bzImage)") == 1


def test_load_panic(kexec: Kexec, calls: Calls) -> None:
    """The command line is the caller's plus elfcorehdr=, without other additions."""
    kexec("-c -p bzImage --append=maxcpus=1")
    (load,) = calls.loads
    assert load.flags == KexecFlag.KEXEC_ON_CRASH
    assert re.fullmatch(r"maxcpus=1 elfcorehdr=0x[0-9a-f]+", load.cmdline)
    assert all(mem in REGION for mem, _, _ in load.segments)


def test_hotplug(kexec: Kexec, calls: Calls, kernel: MadeUp) -> None:
    kexec("-c -p bzImage --hotplug")
    assert calls.loads[0].flags == KexecFlag.KEXEC_ON_CRASH | KexecFlag.KEXEC_UPDATE_ELFCOREHDR
    state = replace(kernel.made.kexec, crash_elfcorehdr_size=Unknown("not there"))
    kernel.made = replace(kernel.made, kexec=state)
    assert "CONFIG_CRASH_HOTPLUG" in kexec("-p bzImage --hotplug", status=255).err
    assert len(calls.loads) == 1


def test_the_file_syscall_is_first(kexec: Kexec, calls: Calls) -> None:
    """As in kexec-tools: the kernel can check a signature."""
    kexec("-l bzImage --initrd=initrd --append=ro")
    kexec("-p bzImage --append=ro")
    assert calls.files == [
        ("ro", KexecFileFlag(0), 5006),
        ("ro", KexecFileFlag.KEXEC_FILE_ON_CRASH | KexecFileFlag.KEXEC_FILE_NO_INITRAMFS, 0),
    ]
    assert calls.loads == []


@pytest.mark.parametrize("error", [ENOSYS, EINVAL, ENOEXEC, ENOTSUP])
def test_then_the_classic_one(kexec: Kexec, calls: Calls, error: int) -> None:
    calls.errors["kexec_file_load"] = error
    kexec("-l bzImage")
    assert len(calls.loads) == 1


@pytest.mark.parametrize("error", [EPERM, EACCES, EKEYREJECTED])
def test_but_not_where_it_is_forbidden(kexec: Kexec, calls: Calls, error: int) -> None:
    calls.errors["kexec_file_load"] = error
    result = kexec("-l bzImage", status=255)
    assert result.err.startswith(f"kexec_file_load failed: {os.strerror(error)}\n")
    assert calls.nothing


def test_only_the_file_syscall(kexec: Kexec, calls: Calls) -> None:
    calls.errors["kexec_file_load"] = ENOSYS
    result = kexec("-s -l bzImage", status=255)
    assert result.err.startswith("syscall kexec_file_load not available.\n")
    assert calls.nothing


def test_flags_of_the_file_syscall(kexec: Kexec, calls: Calls) -> None:
    kexec("-l bzImage --no-cma --initrd=initrd")
    kexec("-l bzImage --force-dtb --initrd=initrd")
    flags = [flags for _, flags, _ in calls.files]
    assert flags == [KexecFileFlag.KEXEC_FILE_NO_CMA, KexecFileFlag.KEXEC_FILE_FORCE_DTB]
    assert "--force-dtb has no effect" in kexec("-c -l bzImage --force-dtb").err


def test_unload(kexec: Kexec, calls: Calls) -> None:
    kexec("-u")
    kexec("-p -u")
    kexec("-u -p -s")
    crash = KexecFlag.KEXEC_ON_CRASH
    assert calls.unloads == [NO_FLAGS, crash, crash]


def test_an_unload_that_fails(kexec: Kexec, calls: Calls) -> None:
    calls.errors.update(kexec_load=ENOSYS, kexec_file_load=ENOSYS)
    result = kexec("-u", status=255)
    assert result.err.startswith("kexec unload failed: Function not implemented\n")


@pytest.mark.parametrize("state", LoadState)
def test_status(kexec: Kexec, calls: Calls, kernel: MadeUp, state: LoadState) -> None:
    status = {LoadState.LOADED: 1, LoadState.NOT_LOADED: 0, LoadState.UNKNOWN: 255}[state]
    kernel.states = {Slot.NORMAL: LoadState.NOT_LOADED, Slot.CRASH: state}
    kexec("-S", status=status)
    kexec("-S -p", status=status)
    kexec("-S -l", status=0)
    assert calls.nothing


@pytest.mark.parametrize("state", [LoadState.NOT_LOADED, LoadState.UNKNOWN])
def test_nothing_is_started_that_is_not_known_to_be_loaded(
    kexec: Kexec, calls: Calls, kernel: MadeUp, state: LoadState
) -> None:
    kernel.states = {Slot.NORMAL: state, Slot.CRASH: LoadState.LOADED}
    result = kexec("-e", status=1)
    assert result.err.startswith("Nothing has been loaded!\n")
    assert calls.nothing
    kexec("-f bzImage", status=1)
    kexec("bzImage", status=1)
    assert calls.others == []


def test_exec(kexec: Kexec, calls: Calls, kernel: MadeUp) -> None:
    """-x is always in effect: the network is never touched."""
    set_loaded(kernel)
    kexec("-e")
    kexec("-e -x -y")
    assert calls.others == ["sync", "reboot", "reboot"]


def test_exec_is_never_a_panic(kexec: Kexec, calls: Calls, kernel: MadeUp) -> None:
    """The crash image is not started."""
    kernel.stage(RECORD)
    set_loaded(kernel, Slot.CRASH)
    kexec("-e", status=1)
    assert calls.nothing


def test_force(kexec: Kexec, calls: Calls, kernel: MadeUp) -> None:
    set_loaded(kernel)
    kexec("-f -c bzImage")
    assert len(calls.loads) == 1
    assert calls.others == ["sync", "reboot"]


def test_a_kernel_alone(kexec: Kexec, calls: Calls, kernel: MadeUp, files: Path) -> None:
    """The program checks for shutdown before anything is loaded."""
    set_loaded(kernel)
    calls.shutdown_folders = (files / "not", files)
    result = kexec("bzImage", status=255)
    assert f"no shutdown program found in {files}/not, {files}\n" in result.err
    assert calls.nothing
    write(files, "shutdown", b"").chmod(0o755)
    kexec("bzImage")
    assert len(calls.files) == 1
    assert calls.others == ["sync", f"{files}/shutdown shutdown -r now"]


def test_the_size_of_the_region(kexec: Kexec, kernel: MadeUp) -> None:
    assert kexec("--print-ckr-size").out == f"{REGION.size}\n"
    kernel.made = make_machine()
    assert kexec("--print-ckr-size").out == "0\n"
    kernel.made = Machine(name="nobody's")
    assert kexec("--print-ckr-size", status=255).out == ""


def test_debug_shows_the_table_before_the_call(kexec: Kexec, calls: Calls) -> None:
    result = kexec("-c -l -d bzImage --append=ro")
    (load,) = calls.loads
    assert f"kexec_load: entry = {load.entry:#x} flags = 0x3e0000\n" in result.err
    (found,) = DUMP.finditer(result.err)
    assert int(found[1]) == len(load.segments)
    mems = [int(text, 16) for text in re.findall(r"\.mem   = (\S+)", found[2])]
    assert mems == [mem for mem, _, _ in load.segments]
    assert re.search(r"\nLoaded kernel at 0x[0-9a-f]+ size 0x[0-9a-f]+: ", result.err)
    assert "MEMORY RANGES\n0000000000000000-000000000009fbff (0)\n" in result.err
    assert "E820 memmap:\n0000000000000000-000000000009fbff (1)\n" in result.err


def test_the_table_is_shown_when_the_call_fails(kexec: Kexec, calls: Calls) -> None:
    calls.errors["kexec_load"] = EPERM
    result = kexec("-c -l bzImage", status=255)
    first, second = result.err.splitlines()[:2]
    assert first == "kexec_load failed: Operation not permitted"
    assert re.fullmatch(r"entry       = 0x[0-9a-f]+ flags = 0x3e0000", second)
    assert DUMP.search(result.err)


TEXTS = {
    "-l": (255, "pykexec-kexec: No kernel specified"),
    "": (255, "pykexec-kexec: No kernel specified"),
    "-l nowhere": (1, "Cannot open `nowhere': No such file or directory"),
    "-l bzImage --initrd=nowhere": (1, "Cannot open `nowhere': No such file or directory"),
    "-l initrd": (255, "Cannot determine the file type of initrd"),
    "-l bzImage -t foo": (255, "pykexec-kexec: Unsupported kernel type foo"),
    "-l bzImage --type=": (255, "pykexec-kexec: Unsupported kernel type "),
    "-l bzImage -t elf-x86_64": (
        255,
        "pykexec-kexec: Wrong file type elf-x86_64, file matches type bzImage64",
    ),
    "-l bzImage --mem-max=zz": (1, "pykexec-kexec: Bad option value in --mem-max=zz"),
    "-l bzImage --mem-max=0x1000000": (
        1,
        "Could not find a free area of memory of 0x100000 bytes...",
    ),
    "--nonsense": (1, "pykexec-kexec: option --nonsense not recognized"),
    "-S --nonsense": (255, "pykexec-kexec: option --nonsense not recognized"),
    "-l bzImage --real-mode --entry-32bit": (
        1,
        "pykexec-kexec: --entry-32bit and --real-mode exclude each other",
    ),
    "-s -l bzImage --real-mode": (
        1,
        "pykexec-kexec: --real-mode has no effect with -s: the kernel places the image",
    ),
    "-c -p bzImage --real-mode": (
        1,
        "pykexec-kexec: a capture kernel runs in the crash region, but real "
        "mode needs memory below 1 MiB",
    ),
    "-l bzImage --reuseinitrd": (
        1,
        "pykexec-kexec: --reuseinitrd: not implemented on this architecture: x86 kernels "
        "free the memory of their initrd",
    ),
}


@pytest.mark.parametrize("words", TEXTS)
def test_a_refusal_says_what_callers_know(kexec: Kexec, calls: Calls, words: str) -> None:
    status, line = TEXTS[words]
    assert kexec(words, status=status).err.splitlines()[0] == line
    assert calls.nothing


def test_no_reservation(kexec: Kexec, calls: Calls, kernel: MadeUp) -> None:
    kernel.made = replace(make_machine(), config=CONFIG)
    for call in ("-s", "-c", "-a"):
        result = kexec(f"-p {call} bzImage", status=1)
        assert result.err.startswith("Memory for crashkernel is not reserved\n")
    assert calls.nothing


def test_an_armed_crash_by_normal_is_not_replaced(
    kexec: Kexec, calls: Calls, kernel: MadeUp
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root has a lock and a record")
    kernel.stage(RECORD)
    assert "would replace the crash by normal" in kexec("-p bzImage", status=255).err
    assert calls.nothing


def test_help_and_version(kexec: Kexec) -> None:
    text = kexec("--help").out
    assert text.startswith(f"{VERSION}\nUsage: kexec [OPTION]... [kernel]\n")
    assert " -p, --load-panic " in text
    assert kexec("-v").out.split()[:2] == ["kexec-tools", "2.0.32"]


@pytest.mark.parametrize("word", ["--help", "--print-ckr-size"])
def test_a_full_disk_under_stdout(kexec: Kexec, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stdout", full)
        assert kexec(word, status=255).err == "pykexec-kexec: no space left on device\n"


def test_the_32_bit_entry(kexec: Kexec, calls: Calls) -> None:
    kexec("-c -l bzImage --entry-32bit")
    (load,) = calls.loads
    params = next(mem for mem, _, data in load.segments if data[0x202:0x206] == b"HdrS")
    assert params < 0xA0000


def test_the_real_mode_entry(kexec: Kexec, calls: Calls) -> None:
    """Only kexec_load supports it, so nothing else is tried."""
    result = kexec("-l bzImage --real-mode --append=ro")
    assert calls.files == []
    (load,) = calls.loads
    setup = next(data for _, _, data in load.segments if data[0x202:0x206] == b"HdrS")
    assert setup[0xE000:0xE003] == b"ro\0"
    assert "warning: the setup code reads from disks through the BIOS" in result.err
    assert kexec("-l bzImage --real-mode --append=edd=off").err == ""


@pytest.mark.parametrize("lockdown", ["integrity", "none"])
def test_lockdown(kexec: Kexec, kernel: MadeUp, calls: Calls, lockdown: str) -> None:
    """A load that needs kexec_load is refused before it is tried."""
    kernel.made = replace(kernel.made, lockdown=lockdown)
    result = kexec("-l bzImage --mem-min=0x2000000", status=255 if lockdown == "integrity" else 0)
    if lockdown == "integrity":
        assert "kexec_load is disabled by lockdown=integrity, and --mem-min needs it" in result.err
        assert calls.nothing


def test_args_none(kexec: Kexec, calls: Calls, files: Path) -> None:
    """The image is entered directly."""
    write(files, "elf", make_elf(entry=0x100040))
    kexec("-l elf --args-none")
    assert calls.loads[0].entry == 0x100040


def test_args_none_of_an_image_that_is_moved(kexec: Kexec, calls: Calls, files: Path) -> None:
    """At its moved entry: there is no RAM where it is linked."""
    code = b"\xf4" * 0x100
    linked = make_elf([(0xF0000, 0xF0000, code, 0x1000)], elf_type=3, entry=0xF0040)
    write(files, "elf", linked)
    kexec("-c -l elf --args-none")
    (load,) = calls.loads
    at = next(mem for mem, _, data in load.segments if code in data)
    assert at > MIB
    assert load.entry % 0x1000 == 0x40
    assert load.entry == at + 0x40


def test_args_none_of_another_mode(kexec: Kexec, calls: Calls, files: Path) -> None:
    """Nothing would leave 64-bit mode, in which this kernel starts an image."""
    write(files, "elf", make_elf(bits=32, machine=3))
    result = kexec("-c -l elf --args-none", status=1)
    assert result.err.startswith(
        "pykexec-kexec: elf is a 32-bit image, but without the purgatory it would start in 64-bit"
    )
    assert calls.nothing
    kexec("-c -l elf --args-elf")


@pytest.mark.parametrize("style", ["linux", "elf", "none"])
def test_args_of_what_is_no_elf_file(kexec: Kexec, style: str) -> None:
    result = kexec(f"-c -l bzImage --args-{style}")
    assert f"note: --args-{style} has no effect: " in result.err
    assert result.err.endswith("bzImage is a bzImage64\n")


def test_args_of_an_elf_file(kexec: Kexec, files: Path) -> None:
    write(files, "elf", make_elf())
    write(files, "vmlinux", make_vmlinux())
    for words in ("elf --args-elf", "elf --args-none", "vmlinux --args-linux"):
        assert kexec(f"-c -l {words}").err == ""
