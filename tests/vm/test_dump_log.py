"""The log of real kernels that panicked, compared with the console and with Debian's vmcore-dmesg,
and read from every kind of file that Debian's makedumpfile makes of the dump."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pykexec.dump.dump_check import contents_of, verify_dump
from pykexec.dump.kallsyms_tables import find_tables
from pykexec.dump.kdump_memory import KdumpMemory
from pykexec.dump.log import records
from pykexec.dump.reader import open_dump
from tests.dump.as_vmcore import vmcore_of

from .panicked import MEMORY_MIB, Panicked, panicked
from .supplies import DEFAULT_SERIES, SUITES, Kernel, command, program

pytestmark = pytest.mark.vm
ALL_SERIES = tuple(SUITES)


@pytest.fixture(scope="module")
def crash(kernel: Kernel) -> Panicked:
    return panicked(kernel)


def log(path: Path) -> list[bytes]:
    return [line for record in records(open_dump(str(path))) for line in record.lines()]


def tool(name: str, *words: str | Path) -> bytes:
    """Output of a program from Debian, which must succeed."""
    done = subprocess.run([*command(program(name)), *words], capture_output=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def vmcore(crash: Panicked, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With virtual addresses, which the guest itself reported."""
    return vmcore_of(crash.elf, tmp_path_factory.mktemp("vmcore") / "vmcore", crash.symbols)


def test_the_log_is_the_console_byte_for_byte(crash: Panicked) -> None:
    output = crash.console.replace(b"\r\n", b"\n")
    found = log(crash.elf)
    assert output[output.index(found[0]) :].rstrip(b"\n") == b"\n".join(found)
    assert len(found) > 250
    assert any(line.endswith(b"control: a\tb \x1b[31mred \xc3\xbcml \xff end") for line in found)


def test_kallsyms_is_found_without_its_name(crash: Panicked, kernel: Kernel) -> None:
    """As in a kernel before 6.0. Since 6.4 the tables are in another order, and always named."""
    if kernel.series != DEFAULT_SERIES:
        pytest.skip("its kallsyms has another order")
    dump = open_dump(str(crash.elf))
    named = find_tables(dump.kernel, dump.info)
    for key in [key for key in dump.info.values if "kallsyms" in key]:
        del dump.info.values[key]
    found = find_tables(dump.kernel, dump.info)
    fields = ("count", "names", "token_table", "token_index", "offsets", "relative_base")
    assert [getattr(found, name) for name in fields] == [getattr(named, name) for name in fields]


def test_qemus_own_compressed_file(crash: Panicked) -> None:
    assert open_dump(str(crash.kdump)).format == "kdump-compressed (zlib), flattened"
    assert log(crash.kdump) == log(crash.elf)


def test_vmcore_dmesg_of_debian(crash: Panicked, vmcore: Path) -> None:
    """The same bytes. On 7.x Debian's may lose the text of a record that ends with the ring; there
    is none here."""
    code = "from pykexec.vmcore_dmesg import main; main()"
    ours = subprocess.run([sys.executable, "-c", code, vmcore], capture_output=True)
    assert (ours.returncode, ours.stderr) == (0, b"")
    assert ours.stdout == tool("vmcore-dmesg", vmcore)


MAKEDUMPFILE = {
    "zlib": ("-c", "-d", "31"),
    "lzo": ("-l", "-d", "31"),
    "lzo, all pages": ("-l", "-d", "0"),
    "not compressed": ("-d", "31"),
    "elf": ("-E", "-d", "31"),
}


@pytest.mark.parametrize("kind", MAKEDUMPFILE)
def test_files_of_makedumpfile(kind: str, crash: Panicked, vmcore: Path, tmp_path: Path) -> None:
    target = tmp_path / "dump"
    tool("makedumpfile", *MAKEDUMPFILE[kind], vmcore, target)
    assert log(target) == log(crash.elf)
    assert verify_dump(open_dump(str(target))).whole
    assert_same_memory(target, crash)


def test_a_split_dump_of_makedumpfile(crash: Panicked, vmcore: Path, tmp_path: Path) -> None:
    """Each file is complete, and together they have the pages of the dump in one file."""
    whole, *parts = (tmp_path / name for name in ("whole", "first", "second"))
    tool("makedumpfile", "-c", "-d", "31", vmcore, whole)
    tool("makedumpfile", "-c", "-d", "31", "--split", "--splitblock-size", "16", vmcore, *parts)
    found = [verify_dump(open_dump(str(path))) for path in parts]
    assert all(verdict.whole for verdict in found)
    first, second = (verdict.contents.memory for verdict in found)
    assert first
    assert second
    assert not first & second
    assert first | second == contents_of(open_dump(str(whole))).memory


@pytest.mark.parametrize("kind", [("-l", "-d", "31"), ("-E", "-d", "31")])
def test_flattened_files_of_makedumpfile(
    kind: tuple[str, ...], crash: Panicked, vmcore: Path, tmp_path: Path
) -> None:
    target = tmp_path / "dump"
    target.write_bytes(tool("makedumpfile", "-F", *kind, vmcore))
    assert open_dump(str(target)).format.endswith("flattened")
    assert log(target) == log(crash.elf)
    assert_same_memory(target, crash)


def assert_same_memory(target: Path, crash: Panicked) -> None:
    """Compares every page of a compressed file, but only the kernel's text of an ELF file, in which
    filtered pages look like zeros."""
    filtered, whole = open_dump(str(target)).memory, open_dump(str(crash.elf))
    known = crash.symbols
    text = range(known["_stext"], known["_etext"], 4096)
    pages = [whole.kernel.translate(addr)[0] & ~0xFFF for addr in text]
    assert len(pages) > 2000
    if isinstance(filtered, KdumpMemory):
        pages += [frame * 4096 for frame in range(MEMORY_MIB << 8) if filtered.has(frame)]
    for addr in pages:
        assert filtered.read(addr, 4096) == whole.memory.read(addr, 4096), hex(addr)
