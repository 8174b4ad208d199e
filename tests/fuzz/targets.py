"""For any bytes the result is a value or a typed one-line error, soon, and with little memory.

There is one function for each kind of input. In pytest, hypothesis feeds them with damaged seeds
(test_targets.py); under atheris (scripts/fuzz) they are guided by coverage.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from pykexec.abi.x86.bootparam import BOOT_PARAMS_SIZE
from pykexec.abi.x86.page import PAGE_SIZE
from pykexec.backends.kernel.journal import Journal
from pykexec.backends.kernel.record import RecordFile
from pykexec.backends.page_list import read_page_list
from pykexec.backends.simulated.kernel.ram import Ram, apply_journal
from pykexec.backends.simulated.second.stub_run import run_stub
from pykexec.backends.simulated.second.zero_page import read_zero_page
from pykexec.backends.simulated.store.machine_file import decode, encode
from pykexec.cli.kexec8.wishes import wishes
from pykexec.cli.out import plain
from pykexec.cli.report.answer import Answer
from pykexec.cli.report.crash_cause import CrashCauseReport
from pykexec.cli.report.diff import DiffReport
from pykexec.cli.report.doctor import DoctorReport
from pykexec.cli.report.dump import DumpVerdictReport
from pykexec.cli.report.error import error_document
from pykexec.cli.report.explanation import ExplainReport
from pykexec.cli.report.image import ImageReport
from pykexec.cli.report.initrd import InitrdReport
from pykexec.cli.report.vmcore import VmcoreVerdictReport
from pykexec.cli.run.inspect import report
from pykexec.crash.notes import VMCOREINFO, Note
from pykexec.documents import codec
from pykexec.documents.plan import read_plan
from pykexec.dump.dump_check import verify_dump
from pykexec.dump.log import records
from pykexec.dump.log_text import safe
from pykexec.dump.reader import Dump, open_dump
from pykexec.dump.report import make_report
from pykexec.dump.vmcore import open_vmcore
from pykexec.dump.vmcore_check import expected_of_plan, verify
from pykexec.errors import KexecError, printable
from pykexec.flows.checked_plan import decide
from pykexec.flows.diff import diff
from pykexec.flows.doctor import diagnose
from pykexec.flows.explain import verdicts
from pykexec.flows.inspect import Found, inspect_file
from pykexec.host import captured as host_captured
from pykexec.host.facts import read_machine
from pykexec.host.kallsyms import symbol_addresses
from pykexec.host.kernel_map import (
    kcore_loads,
    kernel_mapping,
    page_offset_base,
    per_cpu_areas,
)
from pykexec.host.root import Folder
from pykexec.host.running_kernel import symbol_table
from pykexec.images.codecs import codec_of
from pykexec.images.compression import unpacked
from pykexec.images.contents import CHUNK, Built, OpenFile
from pykexec.images.identify import identify
from pykexec.images.initrd import looks_like_initrd, read_initrd
from pykexec.images.initrd_check import examine
from pykexec.images.kernel_image import KernelImage
from pykexec.machine import CpuNotes, Machine
from pykexec.memory import firmware_memmap, iomem
from pykexec.memory.ranges import PhysRange, RangeSet
from pykexec.placement.request import ImageKind, LoadRequest
from tests.builders import MIB, make_machine
from tests.dump.arm64_kernel import ArmKernel
from tests.dump.builders import PRSTATUS
from tests.dump.builders import elf as elf_dump
from tests.dump.kernel import PHYS_BASE, TEXT_SIZE, Kernel

KERNEL_DATA = PHYS_BASE + 2 * TEXT_SIZE
SECONDS = 10
"""Limit of processor time for one input; most need a thousandth."""
UNPACKED_MAX = 2 * MIB
PIECE_MAX = 12 * MIB
"""Limit for one step of a decoder, whatever the total limit."""
MESSAGE_MAX = 1000
NOTE = Note(b"CORE", 1, bytes(336)).encoded
Target = Callable[[bytes], object]


def survive(target: Target, data: bytes) -> None:
    """Run it; any result but a value or a KexecError is a finding."""
    started = time.process_time()
    attempt(lambda: target(data))
    assert time.process_time() - started < SECONDS, "it took too long"


def attempt(step: Callable[[], object]) -> None:
    """Run it, and check that an error is one printable line."""
    try:
        step()
    except KexecError as error:
        assert "\n" not in error.message, "an error is one line"
        assert len(error.message) < MESSAGE_MAX, "an error is a line that can be read"
        codec.encode(error_document(error))


@cache
def scratch() -> Path:
    """A folder of this process, in memory if possible."""
    shm = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="pykexec-fuzz-", dir=shm))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def written(data: bytes, name: str = "input") -> Path:
    """Write the input to a file, the same one every time."""
    path = scratch() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def show(answer: Answer) -> None:
    """Print everything about it."""
    codec.encode(answer.document())
    for line in plain.text(answer.page(2)):
        printable(line)


def image(data: bytes, *types: str | None) -> None:
    """Parse it as each of these types, read it to its end, show it, and make plans."""
    path = written(data)
    for name in types:
        attempt(lambda: use_image(identify(path, name)))  # noqa: B023


def use_image(found: KernelImage) -> None:
    for chunk in found.payload.chunks():
        assert len(chunk) <= CHUNK
    show(ImageReport(found))
    for request in requests():
        attempt(lambda: decide(found, machine(), request))  # noqa: B023


@cache
def requests() -> tuple[LoadRequest, ...]:
    return tuple(
        LoadRequest(kind, initrd=Built(b"070701" * 99), append=("quiet",)) for kind in ImageKind
    )


@cache
def machine() -> Machine:
    return make_machine(crash_kernel=(PhysRange.sized(512 * MIB, 256 * MIB),))


def bzimage(data: bytes) -> None:
    image(data, "bzImage64", "bzImage")


def elf(data: bytes) -> None:
    image(data, "vmlinux", "vmlinux-i386", "elf-x86_64", "elf-x86")


def multiboot(data: bytes) -> None:
    image(data, "multiboot", "multiboot2")


def uimage(data: bytes) -> None:
    image(data, "uImage")


def pe(data: bytes) -> None:
    image(data, "uki", "zboot")


def any_file(data: bytes) -> None:
    """Any file, as input of `inspect`."""
    attempt(lambda: show_found(inspect_file(written(data))))
    image(data, None)


def show_found(found: Found) -> None:
    show(report(found))


def compression(data: bytes) -> None:
    """Never yields more than the limit and one step of a decoder."""
    codec = codec_of(data[:16])
    if codec:
        total = 0
        for piece in unpacked("input", Built(data), codec, UNPACKED_MAX):
            assert len(piece) <= PIECE_MAX
            total += len(piece)
            assert total <= UNPACKED_MAX


def initrd(data: bytes) -> None:
    file = OpenFile(written(data))
    looks_like_initrd(file)
    found = examine(file.span(0, file.size), "6.1.0")
    assert all(fault.what and fault.hint for fault in found.faults)
    show(InitrdReport(read_initrd(file, UNPACKED_MAX)))


def iomem_text(data: bytes) -> None:
    lines = iomem.parse_iomem(data.decode("utf-8", "replace"))
    iomem.named(lines, "Crash kernel", "Kernel code")
    _ = iomem.memory_map(lines).whole_page_ram(4096)


def memmap_texts(data: bytes) -> None:
    """Three lines for each entry: start, end, type."""
    texts = data.decode("utf-8", "replace").split("\n")
    entries = [(start, end, kind) for start, end, kind in zip(*[iter(texts)] * 3, strict=False)]
    _ = firmware_memmap.memory_map(entries).whole_page_ram(4096)


def machine_file(data: bytes) -> None:
    """A machine that was read can be written, and is then the same."""
    state, pending = decode(data)
    assert decode(encode(state, pending)) == (state, pending)


JOURNAL_PAGES = 8


def ram_journal(data: bytes) -> None:
    """ram.new as a killed command may have left it; it is applied twice."""
    with open(written(data), "rb") as file, tempfile.TemporaryFile(dir=scratch()) as ram:
        for _ in range(2):
            apply_journal(file.fileno(), ram.fileno(), JOURNAL_PAGES * PAGE_SIZE)
            assert os.fstat(ram.fileno()).st_size == JOURNAL_PAGES * PAGE_SIZE


def page_list(data: bytes) -> None:
    """The first word is the head; four pages follow, repeatedly."""

    def read(addr: int, size: int) -> bytes:
        at = 8 + addr // PAGE_SIZE % 4 * PAGE_SIZE
        return data[at : at + size].ljust(size, b"\0")

    _ = read_page_list(read, int.from_bytes(data[:8], "little"), 2048, PAGE_SIZE).backup_map


def plan(data: bytes) -> None:
    """As both files of a diff, as the expectation for a dump, and as input of `explain`."""
    path = written(data)
    attempt(lambda: show(DiffReport(diff(path, path))))
    attempt(lambda: expected_of_plan(path))
    show(ExplainReport("EINVAL", plan=verdicts(read_plan(path))))


def vmcore(data: bytes) -> None:
    path = written(data)
    attempt(lambda: show(VmcoreVerdictReport(verify(path))))
    show_found(inspect_file(path))


def dump_file(data: bytes) -> None:
    """Any file as a dump: its log, everything that a report reads, and whether it is complete."""
    path = str(written(data))
    attempt(lambda: show_log(open_dump(path)))
    attempt(lambda: show(CrashCauseReport(make_report(open_dump(path)))))
    attempt(lambda: show(DumpVerdictReport(verify_dump(open_dump(path)))))


def show_log(dump: Dump) -> None:
    for record in records(dump):
        for line in record.lines():
            assert safe(line).replace("\t", "").isprintable()


@cache
def small_kernel() -> Kernel:
    return Kernel()


def dump_memory(data: bytes) -> None:
    """The data of a kernel image after its text: tables, lists, rings. VMCOREINFO is valid."""
    kernel = small_kernel()
    whole, ram = kernel.elf(), kernel.memory.ram
    start = len(whole) - len(ram) + KERNEL_DATA
    room = len(whole) - start
    dump_file(whole[:start] + data[:room].ljust(room, b"\0"))


@cache
def small_arm_kernel() -> ArmKernel:
    return ArmKernel()


def dump_memory_arm64(data: bytes) -> None:
    """The image of an arm64 kernel, its text included, whose instructions are read."""
    kernel = small_arm_kernel()
    whole, ram = kernel.elf(), kernel.memory.ram
    start = len(whole) - len(ram) + PHYS_BASE
    room = len(whole) - start
    dump_file(whole[:start] + data[:room].ljust(room, b"\0"))


def vmcoreinfo(data: bytes) -> None:
    """Keys and values of VMCOREINFO, for a valid kernel of each architecture."""
    notes = PRSTATUS + Note(VMCOREINFO, 0, data).encoded
    for kernel in (small_kernel(), small_arm_kernel()):
        dump_file(elf_dump(kernel.memory, notes=notes))


class Bytes:
    """Physical memory that starts with the input; everything after it is notes."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read(self, addr: int, size: int) -> bytes:
        return (self.data[addr : addr + size] or NOTE[:size]).ljust(size, b"\0")

    def copy_to(self, fd: int, offset: int, span: PhysRange) -> None:
        """Writes nothing."""


def elfcorehdr(data: bytes) -> None:
    """As read by a capture kernel."""
    open_vmcore(Bytes(data), 0, PAGE_SIZE)


RAM_SIZE, WHERE = 8 * MIB, 4 * MIB
RAM = RangeSet((PhysRange(0, RAM_SIZE),))


@contextmanager
def memory(data: bytes) -> Iterator[Ram]:
    """A machine's memory, with the input at 4 MiB."""
    with open(written(b""), "r+b") as file, tempfile.TemporaryFile(dir=scratch()) as journal:
        file.truncate(RAM_SIZE)
        os.pwrite(file.fileno(), data[: RAM_SIZE - WHERE], WHERE)
        yield Ram(file.fileno(), RAM_SIZE, RAM, journal.fileno())


def boot_params(data: bytes) -> None:
    """As shown by `inspect`, and as read by a booting kernel."""
    attempt(lambda: show_found(inspect_file(written(data[:BOOT_PARAMS_SIZE]))))
    with memory(data) as ram:
        read_zero_page(ram, WHERE).elfcorehdr()


def stub(data: bytes) -> None:
    """The page at the entry, and what it points to."""
    with memory(data) as ram:
        run_stub(ram, WHERE)


def kallsyms(data: bytes) -> None:
    """Both readers of it."""
    written(data, "root/proc/kallsyms")
    root = Folder(scratch() / "root")
    symbol_table(root, "aarch64", ())
    symbol_addresses(("kexec_image", "kexec_crash_image"), root)


PER_CPU = {
    "__per_cpu_offset": 0xFFFFFFFF81000800,
    "__per_cpu_start": 0,
    "__per_cpu_end": 0x2E000,
}


def kcore(data: bytes) -> None:
    written(data, "root/proc/kcore")
    root = Folder(scratch() / "root")
    loads = kcore_loads(root)
    page_offset_base(loads)
    kernel_mapping(loads)
    per_cpu_areas(root, PER_CPU, (CpuNotes(0, 0, 0), CpuNotes(3, 0, 0)), loads, 4096)


def captured(data: bytes) -> None:
    """All of its facts, and what `doctor` reports about them."""
    facts = read_machine(host_captured.decode(data, "input"))
    show(DoctorReport(facts.name, diagnose(facts)))


def stage_journal(data: bytes) -> None:
    written(data, "stage.json")
    Journal(scratch()).read()


def load_record(data: bytes) -> None:
    written(data, "loaded.json")
    RecordFile(scratch()).read()


def kexec8_words(data: bytes) -> None:
    """A command line of pykexec-kexec, one word per line: messages quote words unchanged, and are
    made printable when shown."""
    wishes([word.decode("utf-8", "surrogateescape") for word in data.split(b"\n")])


TARGETS: dict[str, Target] = {
    function.__name__: function
    for function in (
        bzimage, elf, multiboot, uimage, pe, any_file, compression, initrd, iomem_text,
        memmap_texts, machine_file, ram_journal, page_list, plan, vmcore, dump_file, dump_memory,
        dump_memory_arm64, vmcoreinfo, elfcorehdr, boot_params,
        stub, kallsyms, kcore, captured, stage_journal, load_record, kexec8_words,
    )
}  # fmt: skip
