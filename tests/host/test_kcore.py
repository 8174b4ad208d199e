"""A made-up /proc/kcore: ELF headers, and a few pages of memory at their offsets."""

from __future__ import annotations

import errno
import os

import pytest

from pykexec.abi.elf import EHDR, EI_IDENT, EM_X86_64, ET_CORE, PHDR, PT_LOAD, PT_NOTE
from pykexec.errors import KexecError
from pykexec.host.kcore import Kcore, NotInKcore, refusal

from .conftest import DIRECT_MAP, NO_PADDR, MakeTree, kcore_headers

TEXT = 0xFFFFFFFF81000000


def make_kcore(*loads: tuple[int, int, bytes]) -> bytes:
    """From (vaddr, paddr, memory) of each load, preceded by a note, in the kernel's layout."""
    offset = 0x1000
    table = [PHDR.pack(PT_NOTE, 0, 0x400, 0, 0, 16, 0, 0)]
    memory = b""
    for vaddr, paddr, data in loads:
        place = offset + len(memory)
        table.append(PHDR.pack(PT_LOAD, 7, place, vaddr, paddr, len(data), len(data), 4096))
        memory += data
    header = EHDR.pack(
        EI_IDENT, ET_CORE, EM_X86_64, 1, 0, EHDR.size, 0, 0, EHDR.size, PHDR.size,
        len(table), 0, 0, 0,
    )  # fmt: skip
    return (header + b"".join(table)).ljust(offset, b"\0") + memory


KCORE = make_kcore(
    (0xFFFFC90000000000, NO_PADDR, b"vmalloc."),
    (TEXT, 0x2000000, b"text and data..."),
    (DIRECT_MAP + 0x1000, 0x1000, b"low memory"),
    (DIRECT_MAP + 0x2000000, 0x2000000, b"0123456789abcdef"),
)


def test_virtual(tree: MakeTree) -> None:
    with Kcore(tree({"/proc/kcore": KCORE})) as kcore:
        assert kcore.virtual(TEXT + 9, 4) == b"data"
        assert kcore.virtual(0xFFFFC90000000000, 8) == b"vmalloc."
        assert kcore.virtual(DIRECT_MAP + 0x2000004, 4) == b"4567"


def test_physical_is_read_through_the_direct_map(tree: MakeTree) -> None:
    with Kcore(tree({"/proc/kcore": KCORE})) as kcore:
        assert kcore.physical(0x1004, 6) == b"memory"
        assert kcore.physical(0x200000F, 1) == b"f"


OUTSIDE = [
    ("just behind a mapping", "virtual", TEXT + 9, 8),
    ("the null pointer", "virtual", 0, 8),
    ("no RAM", "physical", 0x9F000, 8),
    ("the last byte is outside", "physical", 0x2000000, 17),
]


@pytest.mark.parametrize(
    ("how", "addr", "size"), [row[1:] for row in OUTSIDE], ids=[row[0] for row in OUTSIDE]
)
def test_outside(tree: MakeTree, how: str, addr: int, size: int) -> None:
    with Kcore(tree({"/proc/kcore": KCORE})) as kcore, pytest.raises(NotInKcore) as caught:
        getattr(kcore, how)(addr, size)
    assert str(caught.value) == f"/proc/kcore: does not have {size:#x} bytes at {how} {addr:#x}"


def test_file_that_ends_early(tree: MakeTree) -> None:
    with (
        Kcore(tree({"/proc/kcore": KCORE[:-4]})) as kcore,
        pytest.raises(NotInKcore, match="/proc/kcore: ends at 0x"),
    ):
        kcore.physical(0x2000000, 16)


BAD_FILES = [
    ("not an ELF file", b"x" * 64, "/proc/kcore: not an ELF64 file"),
    ("empty", b"", "/proc/kcore: not an ELF64 file"),
    (
        "of a kernel before 4.11",
        kcore_headers((DIRECT_MAP, 0, 4096), (DIRECT_MAP + 8192, 0, 4096)),
        "/proc/kcore: two program headers have the same physical address",
    ),
]


@pytest.mark.parametrize(
    ("data", "message"), [row[1:] for row in BAD_FILES], ids=[row[0] for row in BAD_FILES]
)
def test_bad_file(tree: MakeTree, data: bytes, message: str) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    root = tree({"/proc/kcore": data})
    with pytest.raises(KexecError) as caught:
        Kcore(root)
    assert str(caught.value) == message
    assert len(os.listdir("/proc/self/fd")) == descriptors


REFUSALS = [
    (
        "locked down",
        errno.EPERM,
        "none integrity [confidentiality]\n",
        "/proc/kcore: not permitted: the kernel is locked down (confidentiality)",
        "boot with lockdown=integrity or none",
        4,
    ),
    (
        "no capability, integrity does not matter",
        errno.EPERM,
        "none [integrity] confidentiality\n",
        "/proc/kcore: operation not permitted",
        "run as root (CAP_SYS_RAWIO is needed; containers drop it)",
        4,
    ),
    (
        "not root",
        errno.EACCES,
        None,
        "/proc/kcore: permission denied",
        "run as root (CAP_SYS_RAWIO is needed; containers drop it)",
        4,
    ),
    (
        "not built in",
        errno.ENOENT,
        None,
        "/proc/kcore: does not exist",
        "the kernel needs CONFIG_PROC_KCORE=y",
        5,
    ),
    ("something else", errno.EIO, None, "/proc/kcore: input/output error", None, 5),
]


@pytest.mark.parametrize(
    ("number", "lockdown", "message", "hint", "status"), [row[1:] for row in REFUSALS],
    ids=[row[0] for row in REFUSALS],
)  # fmt: skip
def test_refusal(
    tree: MakeTree, number: int, lockdown: str | None, message: str, hint: str | None, status: int
) -> None:
    root = tree({"/sys/kernel/security/lockdown": lockdown})
    found = refusal(root, OSError(number, os.strerror(number)))
    assert (str(found), found.hint, found.exit_status) == (message, hint, status)


def test_missing_kcore(tree: MakeTree) -> None:
    with pytest.raises(KexecError, match="/proc/kcore: does not exist"):
        Kcore(tree({"/proc/kcore": None}))
