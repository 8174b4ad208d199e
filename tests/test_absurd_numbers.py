"""Work does not grow with a number in the input: the cost of absurd machines, counted in lines of
Python and in bytes, never in time."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pykexec.backends.simulated.kernel.layout import BadLayout, RelocateKernel
from pykexec.backends.simulated.store.new_machine import new_layout
from pykexec.crash.backup_map import BackupMap, BackupRun
from pykexec.errors import KexecError
from pykexec.flows.checked_plan import decide
from pykexec.flows.doctor import diagnose
from pykexec.host.facts import read_machine
from pykexec.host.root import Folder
from pykexec.images.identify import identify
from pykexec.images.kernel_image import KernelImage
from pykexec.machine import Machine
from pykexec.memory.ranges import PhysRange
from pykexec.placement.request import ImageKind, LoadRequest, Mode
from tests.builders import MIB, make_bzimage, make_machine, write

LINES = 400_000
BYTES = 32 * MIB
KINDS = {
    "normal": LoadRequest(),
    "crash": LoadRequest(kind=ImageKind.CRASH),
    "hotplug": LoadRequest(kind=ImageKind.CRASH, hotplug=True),
    **{str(mode): LoadRequest(kind=ImageKind.CRASH_BY_NORMAL, mode=mode) for mode in Mode},
}


class TooMuchWork(AssertionError):
    """More work than is allowed for an input of this length."""


@contextmanager
def bounded(lines: int = LINES, memory: int = BYTES) -> Iterator[None]:
    """Limit the lines of Python that are run, and the bytes that are held at once."""
    left = lines

    def trace(frame: FrameType, event: str, arg: object) -> Callable[..., Any]:
        nonlocal left
        left -= 1
        if left < 0:
            raise TooMuchWork(f"{frame.f_code.co_qualname}: more than {lines} lines")
        return trace

    before = sys.gettrace()
    tracemalloc.start()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < memory, f"{peak} bytes"


def root_of(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def machine_files(
    iomem: list[tuple[int, int, str]], memmap: Iterable[tuple[int, int, str]] = (), **more: str
) -> dict[str, str]:
    lines = [f"{start:08x}-{last:08x} : {name}\n" for start, last, name in iomem]
    files = {
        "/proc/iomem": "".join(lines),
        "/proc/cmdline": "root=/dev/vda1 mem=1G\n",
        "/proc/meminfo": "MemTotal: 18446744073709551615 kB\nMemAvailable: 1 kB\n",
        "/sys/devices/system/cpu/cpu0/crash_notes": "1000\n",
        "/sys/devices/system/cpu/cpu0/crash_notes_size": more.get("notes", "368"),
        "/sys/kernel/vmcoreinfo": more.get("vmcoreinfo", "2000 101c"),
        "/sys/kernel/kexec_crash_size": more.get("crash_size", "65536"),
        "/sys/kernel/crash_elfcorehdr_size": more.get("elfcorehdr", "139264"),
    }
    for number, (start, last, name) in enumerate(memmap):
        at = f"/sys/firmware/memmap/{number}"
        files |= {f"{at}/start": hex(start), f"{at}/end": hex(last), f"{at}/type": name}
    return files


TOP = (1 << 64) - 1
RAM, CRASH = "System RAM", "Crash kernel"
MACHINES = {
    "all of memory": machine_files([(0, TOP, RAM)]),
    "all but the last byte": machine_files([(0x1000, 0x9FBFF, RAM), (MIB, TOP - 1, RAM)]),
    "a crash kernel without end": machine_files([(0, TOP, RAM), (1 << 30, TOP, CRASH)]),
    "a firmware map of everything": machine_files(
        [(0x1000, 0x9FBFF, RAM), (MIB, (1 << 32) - 1, RAM), (1 << 30, (1 << 30) + 0xFFFF, CRASH)],
        [(0, TOP, RAM)],
    ),
    "everything is ACPI": machine_files([(MIB, 1 << 32, RAM), (1 << 33, TOP, "ACPI Tables")]),
    "notes of all sizes": machine_files(
        [(0x1000, 0x9FBFF, RAM), (MIB, 1 << 45, RAM), (1 << 30, 1 << 31, CRASH)],
        notes=str(1 << 63),
        vmcoreinfo="100000 ffffffff",
        elfcorehdr=str(1 << 62),
        crash_size=str(1 << 62),
    ),
    "a driver's RAM": machine_files([(0x1000, 1 << 32, RAM), (1 << 33, TOP, "System RAM (kmem)")]),
}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> KernelImage:
    return identify(write(tmp_path_factory.mktemp("kernel"), "k", make_bzimage()))


def plan_everything(image: KernelImage, machine: Machine, **wishes: object) -> list[str]:
    """Plan every kind of load; returns those that were not refused. Other exceptions are errors."""
    done = []
    for name, request in KINDS.items():
        try:
            decide(image, machine, replace(request, **wishes))  # type: ignore[arg-type]
            done.append(name)
        except KexecError:
            continue
    return done


def known(machine: Machine) -> Machine:
    """Adds facts that are not in the files of a root folder."""
    return replace(machine, page_offset_base=0xFFFF888000000000)


@pytest.mark.parametrize("name", MACHINES)
def test_an_absurd_machine(tmp_path: Path, image: KernelImage, name: str) -> None:
    root = Folder(root_of(tmp_path, MACHINES[name]))
    plan_everything(image, make_machine())  # so that imports are not counted
    with bounded():
        machine = read_machine(root, symbols=False)
        diagnose(machine)
        done = plan_everything(image, known(machine))
    assert "normal" in done


@pytest.mark.parametrize("size", [1 << 40, 1 << 45, 1 << 46, (1 << 64) - 1])
@pytest.mark.parametrize("name", MACHINES)
def test_an_absurd_size_on_an_absurd_machine(
    tmp_path: Path, image: KernelImage, name: str, size: int
) -> None:
    machine = known(read_machine(Folder(root_of(tmp_path, MACHINES[name])), symbols=False))
    with bounded():
        plan_everything(image, machine, crash_size=size)
        plan_everything(image, machine, mem_min=MIB * 16, mem_max=size)


def test_words_that_ask_for_everything(image: KernelImage) -> None:
    huge = "9" * 19
    words = (f"log_buf_len={huge}", f"hugepages={huge}", f"swiotlb={huge} cma={huge}")
    with bounded():
        plan_everything(image, make_machine(), append=words)


NUMBERS = st.one_of(st.integers(0, TOP), st.integers(0, 64).map(lambda n: min(1 << n, TOP)))
LABELS = st.sampled_from((RAM, "Reserved", "ACPI Tables", CRASH, "Kernel code", "System RAM (x)"))
ROWS = st.lists(st.tuples(NUMBERS, NUMBERS, LABELS), max_size=6)


@settings(max_examples=60, deadline=None)
@given(iomem=ROWS, memmap=ROWS)
@example(iomem=[(0, TOP, RAM), (1, TOP, CRASH)], memmap=[(0, TOP, RAM)])
def test_any_map_is_planned_for_or_refused(
    tmp_path_factory: pytest.TempPathFactory,
    image: KernelImage,
    iomem: list[tuple[int, int, str]],
    memmap: list[tuple[int, int, str]],
) -> None:
    folder = root_of(tmp_path_factory.mktemp("root"), machine_files(iomem, memmap))
    with bounded():
        machine = read_machine(Folder(folder), symbols=False)
        diagnose(machine)
        plan_everything(image, known(machine))


def test_a_simulated_machine_is_not_made_of_an_absurd_one(tmp_path: Path) -> None:
    root = Folder(root_of(tmp_path, MACHINES["all but the last byte"]))
    with bounded(), pytest.raises(BadLayout, match="the limit for simulated machines is"):
        new_layout(
            MIB, from_machine=read_machine(root, symbols=False), relocate=RelocateKernel.SWAP
        )


def test_a_note_of_any_size_is_followed_run_by_run() -> None:
    backup = BackupMap.of([BackupRun(0x1000, 0x5000, 0x1000)])
    with bounded(1000):
        assert backup.now_range(PhysRange(0x2000, TOP)) == PhysRange(0x2000, TOP)
        assert backup.now_range(PhysRange(0, TOP)) is None


PAGE = 0x1000
RUNS = st.lists(
    st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(1, 5)), max_size=6
).map(
    lambda rows: BackupMap.of(
        BackupRun(dest * PAGE, source * PAGE, size * PAGE) for dest, source, size in apart(rows)
    )
)


def apart(rows: list[tuple[int, int, int]]) -> Iterator[tuple[int, int, int]]:
    """The ranges that do not start inside the previous one."""
    end = 0
    for dest, source, size in sorted(rows):
        if dest >= end:
            yield dest, source, size
            end = dest + size


@given(backup=RUNS, start=st.integers(0, 26 * PAGE), size=st.integers(1, 8 * PAGE))
def test_a_span_moves_as_its_bytes_do(backup: BackupMap, start: int, size: int) -> None:
    pages = [start, *range(start - start % PAGE + PAGE, start + size, PAGE)]
    moved = [backup.now(addr) for addr in pages]
    whole = None not in moved and all(
        now == moved[0] + addr - start for now, addr in zip(moved, pages, strict=True)
    )
    expected = PhysRange.sized(moved[0], size) if whole and moved[0] is not None else None
    assert backup.now_range(PhysRange.sized(start, size)) == expected
