"""Each known defect of kexec-tools, and the behaviour of pykexec-kexec instead.

U1 to U15 are what a user of kexec-tools 2.0.32 encounters, E1 to E10 what an engineer finds in it
that a user can also encounter; E2, E4, E5 and E9 concern only its source.
"""

from __future__ import annotations

import ast
import os
import re
import struct
import subprocess
import sys
import time
from dataclasses import replace
from errno import EINVAL
from itertools import permutations
from pathlib import Path

import pytest

import pykexec
from pykexec.abi.kexec import KexecFileFlag, KexecFlag
from pykexec.backends.backend import LoadState, Slot
from pykexec.cli.kexec8.parse import BadCommandLine
from pykexec.cli.kexec8.wishes import legacy_port, wishes
from pykexec.host.facts import read_machine
from pykexec.host.root import Folder
from pykexec.machine import CpuNotes, Unknown
from pykexec.memory.map import MemoryMap
from tests.backends.kernel.calls import Calls, Loaded
from tests.builders import (
    GIB,
    MIB,
    make_elf,
    make_multiboot,
    make_uki,
    make_vmlinux,
    multiboot2_header,
    pack,
    ram,
    reserved,
    write,
)
from tests.images.fixtures import FIXTURES

from .conftest import REGION, Kexec, MadeUp

OWN = Path(pykexec.__file__).parent / "cli/kexec8"


def core_headers(load: Loaded) -> bytes:
    """The segment with the ELF core headers."""
    return next(data for _, _, data in load.segments if data[:4] == b"\x7fELF" and data[16] == 4)


def program_headers(load: Loaded) -> list[tuple[int, ...]]:
    """(p_type, p_flags, p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align) of each."""
    data = core_headers(load)
    (count,) = struct.unpack_from("<H", data, 56)
    return [struct.unpack_from("<IIQQQQQQ", data, 64 + 56 * n) for n in range(count)]


# --- what a user encounters -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["vmlinux", "elf-x86_64", "multiboot", "multiboot2", "elf-x86"])
def test_u1_the_default_loads_elf_and_multiboot(
    kexec: Kexec, calls: Calls, files: Path, name: str
) -> None:
    """kexec-tools tries kexec_file_load with a loader that exits before the fallback."""
    write(files, "image", FIXTURES[name])
    kexec("-l image")
    assert len(calls.loads) == 1
    assert calls.files == []


@pytest.mark.parametrize("option", ["--noefi", "--reuse-video-type", "--pass-memmap-cmdline"])
@pytest.mark.parametrize("call", ["-c", "-a"])
def test_u2_no_option_erases_the_command_line(
    kexec: Kexec, calls: Calls, option: str, call: str
) -> None:
    kexec(f"{call} -l bzImage --append=root=/dev/vda1 {option}")
    kexec(f"{call} -l bzImage {option} --append=root=/dev/vda1")
    lines = [load.cmdline for load in calls.loads] + [line for line, _, _ in calls.files]
    assert lines == ["root=/dev/vda1"] * 2


@pytest.mark.parametrize(
    ("option", "extra"),
    [
        ("--mem-min=0x8000000", ""),
        ("--mem-max=0x7ffffff", ""),
        ("--type=bzImage", ""),
        ("--entry=0x1000000 --mem-max=0x11fffff", ""),
        ("-i", ""),
        ("--entry-32bit", ""),
        ("--noefi", ""),
        ("--serial=ttyS1", "--serial has no effect"),
        ("--serial-baud=9600", "--serial-baud has no effect"),
        ("--reset-vga", "--reset-vga has no effect"),
        ("--dtb=x", "--dtb has no effect"),
    ],
)
def test_u3_no_option_is_ignored_in_silence(
    kexec: Kexec, calls: Calls, option: str, extra: str
) -> None:
    """Options that need kexec_load cause its use; those without effect are named."""
    result = kexec(f"-l bzImage {option}")
    assert extra in result.err
    assert (len(calls.loads), len(calls.files)) == ((0, 1) if extra else (1, 0))


def test_u3_the_window_counts_in_the_default_mode(kexec: Kexec, calls: Calls) -> None:
    kexec("-l bzImage --mem-min=0x8000000 --mem-max=0xfffffff")
    assert all(0x8000000 <= mem <= 0xFFFFFFF for mem, _, _ in calls.loads[0].segments)


@pytest.mark.parametrize(
    "words", ["-u -p", "-p -d -u", "-c -p bzImage -d", "-p --hotplug -c bzImage", "-S -l", "-p -S"]
)
def test_u4_the_order_of_options_means_nothing(
    kexec: Kexec, calls: Calls, kernel: MadeUp, words: str
) -> None:
    kernel.states = {Slot.NORMAL: LoadState.NOT_LOADED, Slot.CRASH: LoadState.NOT_LOADED}
    done = set()
    for order in permutations(words.split()):
        calls.loads.clear()
        calls.unloads.clear()
        result = kexec(" ".join(order))
        what = [(load.flags, load.cmdline[:5]) for load in calls.loads]
        shown = "kexec_load: entry" in result.err
        done.add((result.status, tuple(what), tuple(calls.unloads), shown))
    assert len(done) == 1


def test_u5_debug_changes_no_flag(kexec: Kexec, calls: Calls) -> None:
    """A kernel without KEXEC_DEBUG would refuse a load that works without -d."""
    for call in ("-c", "-s", "-a"):
        kexec(f"{call} -d -l bzImage")
    assert [load.flags for load in calls.loads] == [KexecFlag(0)]
    assert [flags for _, flags, _ in calls.files] == [KexecFileFlag.KEXEC_FILE_NO_INITRAMFS] * 2


@pytest.mark.parametrize(
    ("option", "why"),
    [
        (
            "--load-preserve-context",
            "the purgatory of pykexec does not pass on kexec_jump_back_entry=",
        ),
        ("--load-jump-back-helper", "pykexec does not start kernels that can jump back"),
    ],
)
@pytest.mark.parametrize("call", ["", "-c", "-s", "-a"])
def test_u6_jumping_back_is_refused_for_what_it_is(
    kexec: Kexec, calls: Calls, option: str, why: str, call: str
) -> None:
    """Not with a message about kexec_file_load."""
    result = kexec(f"{option} {call} --mem-max=0x1fffffff bzImage", status=1)
    assert result.err.startswith(f"pykexec-kexec: {option}: {why}")
    assert calls.nothing


def test_u7_a_vmlinux_gets_the_linux_protocol_and_an_initrd(
    kexec: Kexec, calls: Calls, files: Path
) -> None:
    write(files, "vmlinux", make_vmlinux())
    for option in ("", "--args-linux", "-t elf-x86_64"):
        kexec(f"-l vmlinux --initrd=initrd --append=ro {option}")
    assert [load.cmdline for load in calls.loads] == ["ro"] * 3
    kexec("-l vmlinux --args-elf")
    assert all(data[0x202:0x206] != b"HdrS" for _, _, data in calls.loads[-1].segments)


@pytest.mark.parametrize(
    "words", ["-S", "-S --nonsense", "-S -t", "-Sl a b", "--status --mem-min=x"]
)
def test_u8_one_is_only_the_answer_loaded(kexec: Kexec, kernel: MadeUp, words: str) -> None:
    kernel.states = {Slot.NORMAL: LoadState.UNKNOWN, Slot.CRASH: LoadState.UNKNOWN}
    assert kexec(words, status=255).err


def test_u9_multiboot2_is_told_the_reused_command_line(
    kexec: Kexec, calls: Calls, files: Path
) -> None:
    write(files, "xen", make_multiboot(multiboot2_header()))
    kexec("-l xen --reuse-cmdline --append=more")
    told = b"xen root=/dev/vda1 crashkernel=64K quiet more\0"
    assert any(told in data for _, _, data in calls.loads[0].segments)


def test_u10_core_headers_of_32_bits_are_not_promised(kexec: Kexec, calls: Calls) -> None:
    result = kexec("-c -p bzImage --elf32-core-headers")
    assert "--elf32-core-headers has no effect: on x86_64 the headers are 64-bit" in result.err
    assert core_headers(calls.loads[0])[4] == 2
    assert kexec("-c -p bzImage --initrd=initrd --elf64-core-headers").err == ""


@pytest.mark.parametrize("codec", ["xz", "lzma", "gzip", "bzip2", "zstd"])
def test_u11_what_is_packed_loads(kexec: Kexec, calls: Calls, files: Path, codec: str) -> None:
    write(files, "packed", pack((files / "bzImage").read_bytes(), codec))
    kexec("-c -l packed --append=ro")
    kexec("-s -l packed --append=ro")
    assert [load.cmdline for load in calls.loads] == ["ro"]
    assert len(calls.files) == 1


def test_u11_a_uki_loads_by_both_calls(kexec: Kexec, calls: Calls, files: Path) -> None:
    """Its own initrd and command line are used unless given; and it leaves no files behind."""
    write(files, "uki", make_uki())
    before = set(os.listdir("/tmp"))
    result = kexec("-c -l uki")
    assert "using the command line inside the uki" in result.err
    kexec("-s -l uki")
    assert calls.loads[0].cmdline == calls.files[0][0]
    assert {name for name in os.listdir("/tmp") if name.startswith(("Kernel", "Initrd"))} <= before


def test_u11_what_cannot_work_is_not_advertised(kexec: Kexec, calls: Calls, files: Path) -> None:
    for name in ("nbi", "beoboot"):
        write(files, name, FIXTURES[name])
        assert "hint: " in kexec(f"-l {name}", status=255).err
    assert calls.nothing


def test_u12_a_load_neither_syncs_nor_touches_the_network(kexec: Kexec, calls: Calls) -> None:
    kexec("-l bzImage")
    kexec("-p bzImage")
    kexec("-u")
    assert calls.others == []
    source = "".join(path.read_text() for path in OWN.glob("*.py"))
    assert not re.search(r"\b(socket|ioctl|ifreq|IFF_UP)\b", source)


def test_u13_a_layout_can_be_looked_at(kexec: Kexec, calls: Calls, files: Path) -> None:
    """-d names each object with its reason; `pykexec load --dry-run` loads nothing."""
    result = kexec("-c -d -l bzImage")
    assert re.search(
        r"Loaded purgatory at 0x[0-9a-f]+ size 0x[0-9a-f]+: at the highest", result.err
    )
    assert len(result.err.splitlines()) < 60
    command = [sys.executable, "-m", "pykexec", "load", "bzImage", "--dry-run"]
    environment = {**os.environ, "PYTHONPATH": str(OWN.parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "purgatory" in done.stdout


@pytest.mark.parametrize(
    ("running", "expected"),
    [
        ("foo=crashkernel crashkernel=256M", "foo=crashkernel"),
        ("BOOT_IMAGE=/vmlinuz BOOT_IMAGE_ID=7 a", "BOOT_IMAGE_ID=7 a"),
        ('x="a crashkernel=1M" crashkernel=256M', 'x="a crashkernel=1M"'),
        ("crashkernel=1G-:64M crashkernel=16M,low b", "b"),
    ],
)
def test_u14_words_are_removed_whole(
    kexec: Kexec, calls: Calls, kernel: MadeUp, running: str, expected: str
) -> None:
    kernel.made = replace(kernel.made, cmdline=running)
    kexec("-c -p bzImage --reuse-cmdline")
    assert calls.loads[0].cmdline.rpartition(" elfcorehdr=")[0] == expected


def test_u15_several_initrds_are_joined(kexec: Kexec, calls: Calls, files: Path) -> None:
    """In order, each at a multiple of 4."""
    write(files, "one", b"070701" + b"1" * 5)
    write(files, "two", b"070702" + b"2" * 5)
    for call in ("-c", "-s"):
        kexec(f"{call} -l bzImage --initrd=one --ramdisk=two")
    joined = b"07070111111\0" + b"07070222222"
    assert joined in [data for _, _, data in calls.loads[0].segments]
    assert calls.files[0][2] == len(joined)


# --- what an engineer finds, and a user can encounter -----------------------------------------


def test_e1_more_segments_than_the_kernel_takes(kexec: Kexec, calls: Calls, files: Path) -> None:
    """kexec-tools prints a warning, and then overwrites the stack."""
    loads = [
        (0x100000 + n * 0x2000, 0x100000 + n * 0x2000, b"\xf4" * 16, 0x1000) for n in range(20)
    ]
    write(files, "elf", make_elf(loads))
    assert "KEXEC_SEGMENT_MAX" in kexec("-l elf", status=1).err
    assert calls.nothing


def test_e1_as_many_modules_as_there_is_room_for(kexec: Kexec, calls: Calls, files: Path) -> None:
    """Each is padded; the size of the information includes that."""
    write(files, "xen", make_multiboot(multiboot2_header()))
    words = ["-l", "xen", *(f"--module=initrd {'a' * n}" for n in range(1, 10))]
    kexec(*words)
    info = next(data for _, _, data in calls.loads[0].segments if b"initrd aaaaaaaaa\0" in data)
    (total,) = struct.unpack_from("<I", info)
    assert total == len(info)
    assert info[-8:] == struct.pack("<II", 0, 8)


def test_e3_identifying_has_no_effects(kexec: Kexec, calls: Calls, files: Path) -> None:
    """Earlier attempts change nothing: the same file gives the same table."""
    for name in ("uki", "bzImage64", "nbi"):
        write(files, name, FIXTURES[name])
    kexec("-c -l bzImage64 -i")
    kexec("-c -l uki -i")
    kexec("-l nbi", status=255)
    kexec("-c -l bzImage64 -i")
    first, _, last = calls.loads
    assert [s[:2] for s in first.segments] == [s[:2] for s in last.segments]


@pytest.mark.parametrize(
    "data", [b"\0", b"\x7fELF", b"MZ" + bytes(0x3A) + b"\xff" * 4, b"HdrS" * 300, bytes(0x10000)]
)
def test_e6_a_fault_is_a_line(kexec: Kexec, calls: Calls, files: Path, data: bytes) -> None:
    """A message and a documented exit status, whatever the file."""
    write(files, "file", data)
    result = kexec("-l file", status=255)
    assert result.err.startswith("Cannot determine the file type of file\npykexec-kexec: file: ")
    assert "Traceback" not in result.err
    assert result.out == ""


def test_the_file_of_a_fault_is_named_whole(kexec: Kexec, files: Path) -> None:
    """Whatever is in its name: it is a fact of the error, and not taken out of the message."""
    write(files, "a:-cannot-be:b", b"text")
    result = kexec("-l a:-cannot-be:b", status=255)
    assert result.err.startswith("Cannot determine the file type of a:-cannot-be:b\n")


@pytest.mark.parametrize("call", ["-c -l bzImage", "-c -p bzImage"])
def test_the_reused_line_keeps_its_bytes(
    kexec: Kexec, calls: Calls, kernel: MadeUp, call: str
) -> None:
    """Also bytes that are not UTF-8, from the running kernel and from --append."""
    kernel.made = replace(kernel.made, cmdline=os.fsdecode(b"name=caf\xe9 x"))
    kexec(*call.split(), "--reuse-cmdline", os.fsdecode(b"--append=more=\xff"))
    line = calls.loads[0].params[4096:].split(b"\0")[0]
    assert line.startswith(b"name=caf\xe9 x more=\xff")


def test_the_file_syscall_gets_these_bytes_too(kexec: Kexec, calls: Calls, kernel: MadeUp) -> None:
    kernel.made = replace(kernel.made, cmdline=os.fsdecode(b"name=caf\xe9 x"))
    result = kexec("-s -d -l bzImage --reuse-cmdline").err
    assert calls.lines == [b"name=caf\xe9 x"]
    assert "command line: name=caf\\xe9 x" in result


@pytest.mark.parametrize("text", ["root=/dev/vda1 ro\n", "root=/dev/vda1\r\nro\r\n"])
@pytest.mark.parametrize("call", ["-c", "-s"])
def test_a_line_that_was_read_from_a_file(kexec: Kexec, calls: Calls, call: str, text: str) -> None:
    """It ends in a newline, or has one between words, which the kernel treats as white space."""
    kexec(call, "-d", "-l", "bzImage", f"--append={text}")
    given = calls.lines or [calls.loads[0].params]
    assert b"root=/dev/vda1 ro" in given[0]


@pytest.mark.parametrize("call", ["-c", "-s"])
def test_the_running_line_is_passed_on_as_it_is(
    kexec: Kexec, calls: Calls, kernel: MadeUp, call: str
) -> None:
    """IMA measures it (event kexec-cmdline)."""
    kernel.made = replace(kernel.made, cmdline='a  "b   c"\td ')
    kexec(call, "-l", "bzImage", "--reuse-cmdline")
    given = calls.lines or [calls.loads[0].params]
    assert b'a  "b   c"\td ' in given[0]


@pytest.mark.parametrize("call", ["-c", "-s"])
def test_words_that_take_the_capture_kernels_memory_are_dropped(
    kexec: Kexec, calls: Calls, kernel: MadeUp, call: str
) -> None:
    kernel.made = replace(kernel.made, cmdline="root=/dev/vda1 log_buf_len=16M crashkernel=256M")
    result = kexec(call, "-p", "bzImage", "--initrd=initrd", "--reuse-cmdline")
    given = (calls.lines or [calls.loads[0].params])[0]
    assert b"root=/dev/vda1" in given
    assert b"log_buf_len" not in given
    assert b"crashkernel" not in given
    assert result.err.startswith(
        "pykexec-kexec: warning: dropped from the running kernel's command line: log_buf_len=16M, "
    )


@pytest.mark.parametrize("call", ["-c", "-s"])
def test_words_of_the_user_that_take_memory_are_counted(
    kexec: Kexec, calls: Calls, call: str
) -> None:
    """The ring buffer and its records need 288 MiB, in a reservation of 256 MiB."""
    result = kexec(call, "-p", "bzImage", "--append=log_buf_len=64M")
    assert "warning: the window has 256 MiB, less than the estimate of 340 MiB" in result.err
    assert "initrd: the capture kernel may run out of memory" in result.err


def test_the_file_syscall_takes_2016_bytes_in_every_mode(kexec: Kexec, calls: Calls) -> None:
    """bzImage64_load reserves 30 bytes for elfcorehdr=; kexec_load can use all of cmdline_size."""
    kexec("-s", "-l", "bzImage", "--append=" + "x" * 2016)
    result = kexec("-s", "-l", "bzImage", "--append=" + "x" * 2017, status=1)
    assert "the command line has 2017 bytes, but kexec_file_load accepts only 2016" in result.err
    assert [len(line) for line in calls.lines] == [2016]
    assert not calls.loads
    kexec("-c", "-l", "bzImage", "--append=" + "x" * 2047)
    assert len(calls.loads) == 1


def test_a_line_that_is_too_long_for_the_file_syscall_gets_the_other(
    kexec: Kexec, calls: Calls
) -> None:
    """EINVAL is one of the errors after which -a tries the next call."""
    result = kexec("-a", "-d", "-l", "bzImage", "--append=" + "x" * 2017)
    assert not calls.lines
    assert len(calls.loads) == 1
    assert "using kexec_load(2): the command line has 2017 bytes" in result.err


def test_an_empty_file_cannot_be_read(kexec: Kexec, files: Path) -> None:
    """Exit status 1, as in kexec-tools."""
    write(files, "file", b"")
    assert kexec("-c -l file", status=1).err == (
        "pykexec-kexec: file: a kernel image cannot be an empty file\n  hint: reinstall "
        "the kernel\n"
    )


def test_e7_processors_with_gaps_between_their_numbers(
    kexec: Kexec, calls: Calls, kernel: MadeUp
) -> None:
    """kexec-tools loses those at or above the number of processors."""
    cpus = (CpuNotes(0, 0x1100000, 368), CpuNotes(7, 0x1101000, 368), CpuNotes(64, 0x1102000, 368))
    kernel.made = replace(kernel.made, cpus=cpus)
    kexec("-c -p bzImage")
    notes = [header[2] for header in program_headers(calls.loads[0]) if header[0] == 4]
    assert notes == [0x1100000, 0x1101000, 0x1102000, 0x1200000]


def test_e7_a_reservation_that_is_a_whole_range(kexec: Kexec, calls: Calls, kernel: MadeUp) -> None:
    """The dump contains nothing of it, and no reversed range."""
    spans = [(0, 0x9F000), (MIB, REGION.start), (REGION.start, REGION.end), (REGION.end, GIB)]
    kernel.made = replace(kernel.made, memory_map=MemoryMap.of(ram(*spans)))
    kexec("-c -p bzImage")
    loads = [h for h in program_headers(calls.loads[0]) if h[0] == 1]
    assert all(0 < memsz < GIB for *_, memsz, _ in loads)
    assert all(h[4] + h[6] <= REGION.start or h[4] >= REGION.end for h in loads)


def test_e8_a_long_command_line_is_read_whole(tmp_path: Path) -> None:
    """add_efi_memmap after 512 bytes: then the firmware's map is not complete."""
    proc = tmp_path / "proc"
    entry = tmp_path / "sys/firmware/memmap/0"
    proc.mkdir()
    entry.mkdir(parents=True)
    for name, text in {"start": "0x0", "end": "0x3fffffff", "type": "System RAM"}.items():
        (entry / name).write_text(text)
    (proc / "cmdline").write_text("a" * 600 + "\n")
    assert not isinstance(read_machine(Folder(tmp_path), False).memory_map, Unknown)
    (proc / "cmdline").write_text("a" * 600 + " add_efi_memmap\n")
    assert isinstance(read_machine(Folder(tmp_path), False).memory_map, Unknown)


def test_e10_there_are_tests() -> None:
    """Every module of the drop-in is imported by a test."""
    names = {path.stem for path in OWN.glob("*.py")} - {"__init__"}
    tested = set()
    for path in Path(__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
                "pykexec.cli.kexec8"
            ):
                tested |= {(node.module or "").rpartition(".")[2], *(a.name for a in node.names)}
    reached = {"act", "image", "loading", "name", "refused", "say", "shown"}  # through program
    assert names - tested <= reached


def test_many_ranges_are_neither_lost_nor_slow(kexec: Kexec, calls: Calls, kernel: MadeUp) -> None:
    """More than the limit of kexec-tools (2048): all are passed on."""
    spans = [(n * 0x10000, n * 0x10000 + 0x8000) for n in range(0x1000, 0x1000 + 3000)]
    gaps = [(n * 0x10000 + 0x8000, n * 0x10000 + 0xC000) for n in range(0x1000, 0x1000 + 3000)]
    first = [(0, 0x9F000), (GIB, 2 * GIB)]
    kernel.made = replace(
        kernel.made, memory_map=MemoryMap.of([*ram(*first, *spans), *reserved(*gaps)])
    )
    started = time.process_time()
    kexec("-c -l bzImage")
    assert time.process_time() - started < 5
    assert calls.loads[0].params[0x1E8] == 128
    data = b"".join(bytes_ for _, _, bytes_ in calls.loads[0].segments)
    assert struct.pack("<QQI", spans[-1][0], 0x8000, 1) in data


def test_a_refused_trial_is_not_repeated(kexec: Kexec, calls: Calls) -> None:
    """EINVAL from both: the second error is shown."""
    calls.errors.update(kexec_file_load=EINVAL, kexec_load=EINVAL)
    result = kexec("-l bzImage", status=255)
    assert result.err.startswith("kexec_load failed: Invalid argument\n")


@pytest.mark.parametrize(
    ("given", "port"),
    [("ttyS1", 0x2F8), ("ttyS0", 0x3F8), ("0x2e8", 0x2E8), (None, None)],
)
def test_serial_is_where_the_purgatory_writes(given: str | None, port: int | None) -> None:
    words = ["-c", "-l", "bzImage", *([f"--serial={given}"] if given else [])]
    asked = wishes(words).serial
    assert (legacy_port(asked) if asked else None) == port


@pytest.mark.parametrize(
    "given", ["ttyS9", "ttyAMA0", "ttyUSB0", "0x0", "0xffff", "1016", "0x12345"]
)
def test_a_bad_serial_port_is_refused(given: str) -> None:
    with pytest.raises(BadCommandLine, match="Bad serial port base"):
        legacy_port(str(wishes(["-c", "-l", "bzImage", f"--serial={given}"]).serial))
