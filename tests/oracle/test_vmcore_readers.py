"""Reads the dump of a simulated machine that Debian's kernel captured with independent programs:
readelf, pyelftools and drgn.

Not makedumpfile and crash: they first translate init_uts_ns through the page tables of the crashed
kernel, and a simulated kernel has none in its memory ("Can't get a valid pgd"). They are used with
real kernels, in tests/vm.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.builders import write

PAGE = 4096
SAMPLES = 20_000
DIRECT_MAP = 0xFFFF888000000000

Frames = list[tuple[int, int]]


def pykexec(*words: str | Path) -> str:
    command = [sys.executable, "-m", "pykexec", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass(frozen=True)
class Crashed:
    """A machine after its crash, and the contents of its used frames before the load."""

    vmcore: Path
    in_use: Frames
    window: range
    written: dict[int, bytes]


def frames(document: dict[str, Any], kind: str) -> Frames:
    return [(int(item["start"], 16), int(item["end"], 16)) for item in document[kind]]


def sample(spans: Frames, count: int, random_source: random.Random) -> list[int]:
    """A uniform sample of frames."""
    every = [addr for start, end in spans for addr in range(start, end, PAGE)]
    return random_source.sample(every, min(count, len(every)))


@pytest.fixture(scope="module")
def crashed(debian_kernel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crashed]:
    folder = tmp_path_factory.mktemp("machine")
    machine = folder / "machine"
    pykexec("machine", "create", machine, "--memory", "512M", "--seed", "3")
    source = random.Random(0)
    in_use = frames(json.loads(pykexec("machine", "show", machine, "--json")), "in_use")
    written = {addr: source.randbytes(PAGE) for addr in sample(in_use, SAMPLES, source)}
    with (machine / "ram").open("r+b") as ram:
        for addr, page in written.items():
            ram.seek(addr)
            ram.write(page)
    initrd = write(folder, "initrd", source.randbytes(1 << 20))
    load = ("load", debian_kernel, "--initrd", initrd, "--crash-by-normal", "--machine", machine)
    plan = json.loads(pykexec(*load, "--json"))
    window = range(int(plan["window"]["start"], 16), int(plan["window"]["end"], 16))
    pykexec("machine", "crash", machine)
    yield Crashed(machine / "vmcore", in_use, window, written)
    shutil.rmtree(machine)


def test_many_samples_were_moved(crashed: Crashed) -> None:
    """A good part of the frames that are compared below was in the window."""
    assert len(crashed.written) == SAMPLES
    assert sum(addr in crashed.window for addr in crashed.written) > 500


def test_readelf(crashed: Crashed) -> None:
    """Reads everything without warnings."""
    readelf = shutil.which("readelf")
    if readelf is None:
        pytest.skip("no readelf (binutils)")
    done = subprocess.run([readelf, "-aW", crashed.vmcore], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"Type: +CORE ", done.stdout)
    assert re.search(r"Machine: +Advanced Micro Devices X86-64", done.stdout)
    assert done.stdout.count("NT_PRSTATUS") == 2
    assert done.stdout.count("VMCOREINFO") == 1


def test_pyelftools(crashed: Crashed) -> None:
    """Each sampled frame is in exactly one PT_LOAD, with the bytes that were written."""
    from elftools.elf.elffile import ELFFile

    with crashed.vmcore.open("rb") as file:
        elf = ELFFile(file)
        assert elf.header["e_type"] == "ET_CORE"
        notes: Any
        (notes,) = (s for s in elf.iter_segments() if s["p_type"] == "PT_NOTE")
        owners = [note["n_name"] for note in notes.iter_notes()]
        assert owners == ["CORE", "CORE", "VMCOREINFO", "PYKEXEC"]
        loads = [s.header for s in elf.iter_segments() if s["p_type"] == "PT_LOAD"]
        found: dict[int, bytes] = {}
        for load in loads:
            assert load["p_filesz"] == load["p_memsz"]
            assert load["p_vaddr"] - load["p_paddr"] == DIRECT_MAP
            start = load["p_paddr"]
            for addr in range(start - start % PAGE, start + load["p_memsz"], PAGE):
                if addr in crashed.written:
                    assert addr not in found
                    file.seek(load["p_offset"] + addr - start)
                    found[addr] = file.read(PAGE)
    assert found == crashed.written


def test_drgn(crashed: Crashed) -> None:
    """Recognizes it as a Linux kernel's dump, and reads every sampled frame by its physical address
    and through the direct map."""
    drgn = pytest.importorskip("drgn", reason="no drgn")
    program = drgn.Program()
    program.set_core_dump(crashed.vmcore)
    assert program.flags & drgn.ProgramFlags.IS_LINUX_KERNEL
    assert b"OSRELEASE=6.1.0-simulated" in program["VMCOREINFO"].string_()
    wrong = [
        hex(addr)
        for addr, page in crashed.written.items()
        if program.read(addr, PAGE, physical=True) != page
        or program.read(DIRECT_MAP + addr, PAGE) != page
    ]
    assert wrong == []


def test_drgn_refuses_what_is_in_no_header(crashed: Crashed) -> None:
    """A hole in the memory map is not memory for drgn either."""
    drgn = pytest.importorskip("drgn", reason="no drgn")
    program = drgn.Program()
    program.set_core_dump(crashed.vmcore)
    with pytest.raises(drgn.FaultError):
        program.read(0xF0000, PAGE, physical=True)
