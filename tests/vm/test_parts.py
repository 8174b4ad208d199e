"""The parts of the lab that do not need a machine."""

from __future__ import annotations

import io
import re
import sys
from array import array
from dataclasses import replace
from pathlib import Path

import pytest

from .debian import Source, Unavailable, parse_deb822, parse_one_line, sources_for
from .guest import check_pattern
from .guest.pattern import PAGE, page
from .initramfs import Tree
from .machine import NO_STATUS, Machine

MIRROR = "http://mirror.test/debian"
SECURITY = "http://mirror.test/debian-security"
KEY = "/usr/share/keyrings/debian-archive-keyring.gpg"


def test_deb822_sources() -> None:
    text = f"""\
# a comment
Types: deb deb-src
URIs: {MIRROR}
Suites: bookworm bookworm-updates
Components: main
Signed-By: {KEY}

Types: deb-src
URIs: http://other.test/debian
Suites: bookworm
"""
    assert parse_deb822(text) == [
        Source(MIRROR, "bookworm", KEY),
        Source(MIRROR, "bookworm-updates", KEY),
    ]


def test_one_line_sources() -> None:
    text = f"# deb {MIRROR} x main\ndeb [arch=amd64 signed-by={KEY}] {MIRROR} bookworm main\n"
    assert parse_one_line(text) == [Source(MIRROR, "bookworm", KEY)]


@pytest.mark.parametrize(
    ("suite", "expected"),
    [
        ("bookworm", [f"deb {MIRROR} bookworm main", f"deb {SECURITY} bookworm-security main"]),
        ("bookworm-backports", [f"deb {MIRROR} bookworm-backports main"]),
        ("unstable", [f"deb {MIRROR} unstable main"]),
        ("bullseye", [f"deb {MIRROR} bullseye main"]),
    ],
)
def test_sources_are_at_the_mirror_this_computer_uses(suite: str, expected: list[str]) -> None:
    known = [Source(MIRROR, "trixie"), Source(SECURITY, "trixie-security")]
    assert sources_for(suite, known).splitlines() == expected


def test_no_debian_mirror_is_a_reason_to_skip() -> None:
    with pytest.raises(Unavailable, match="name no Debian archive"):
        sources_for("bookworm", [Source("http://mirror.test/ubuntu", "noble")])


def test_an_archive_is_the_same_whatever_the_order_of_its_files() -> None:
    one, other = Tree(), Tree()
    one.write("/etc/a", "1")
    one.link("/etc/b", "a")
    other.link("/etc/b", "a")
    other.write("/etc/a", "1")
    assert one.archive() == other.archive()


def test_an_archive_has_folders_before_their_files() -> None:
    tree = Tree()
    tree.write("/a/b/c", "contents", 0o755)
    archive = tree.archive()
    # Each header is 110 bytes: magic, 13 numbers of 8 digits; mode is the second number.
    headers = [match.start() for match in re.finditer(b"070701", archive)]
    modes = [int(archive[at + 14 : at + 22], 16) for at in headers]
    names = [archive[at + 110 : archive.index(b"\0", at + 110)] for at in headers]
    assert names == [b"a", b"a/b", b"a/b/c", b"TRAILER!!!"]
    assert modes == [0o040755, 0o040755, 0o100755, 0]
    assert all(at % 4 == 0 for at in headers)
    assert len(archive) % 4 == 0


def core_file(*loads: tuple[int, int, bytes]) -> io.BytesIO:
    """A core file of (virtual address, physical address, contents)."""
    ehdr, phdr = check_pattern.EHDR, check_pattern.PHDR
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head = ehdr.pack(ident, 4, 62, 1, 0, ehdr.size, 0, 0, ehdr.size, phdr.size, len(loads), 0, 0, 0)
    offset = ehdr.size + phdr.size * len(loads)
    table = contents = b""
    for vaddr, addr, memory in loads:
        at = offset + len(contents)
        table += phdr.pack(1, 7, at, vaddr, addr, len(memory), len(memory), 0)
        contents += memory
    return io.BytesIO(head + table + contents)


DIRECT_MAP = 0xFFFF888000000000
FRAMES = array("Q", [0x5000, 0x6000, 0x9000])


@pytest.mark.parametrize(
    ("what", "extra", "intact", "repeated", "elsewhere", "unlisted", "broken"),
    [
        ("nothing else", (DIRECT_MAP, 0x20000, b""), 3, 0, 0, 0, 0),
        ("a page twice", (DIRECT_MAP, 0x5000, page(0x5000)), 2, 1, 0, 0, 0),
        ("the view of kernel text", (0xFFFFFFFF81000000, 0x5000, page(0x5000)), 3, 0, 0, 0, 0),
        ("a copy", (DIRECT_MAP, 0x20000, page(0x5000)), 3, 0, 1, 0, 0),
        ("a page left behind", (DIRECT_MAP, 0x20000, page(0x20000)), 3, 0, 0, 1, 0),
        ("a damaged page", (DIRECT_MAP, 0x20000, page(0x20000)[:-1] + b"?"), 3, 0, 0, 0, 1),
    ],
)
def test_pattern_pages_are_judged(
    what: str,
    extra: tuple[int, int, bytes],
    intact: int,
    repeated: int,
    elsewhere: int,
    unlisted: int,
    broken: int,
) -> None:
    core = core_file(
        (DIRECT_MAP, 0x4000, bytes(PAGE) + page(0x5000) + page(0x6000)),
        (DIRECT_MAP, 0x9000, page(0x9000)),
        extra,
    )
    found = check_pattern.check(FRAMES.tobytes(), core)
    judged = (found.intact, found.repeated, found.elsewhere, found.unlisted, found.broken)
    assert judged == (intact, repeated, elsewhere, unlisted, broken)
    assert found.missing == 0


def test_a_page_that_is_not_in_the_core_is_missing() -> None:
    core = core_file((DIRECT_MAP, 0x4000, bytes(PAGE) + page(0x5000)))
    found = check_pattern.check(FRAMES.tobytes(), core)
    assert (found.expected, found.intact, found.missing) == (3, 1, 2)


def test_a_truncated_core_is_refused() -> None:
    core = core_file((DIRECT_MAP, 0x4000, page(0x5000)))
    core.truncate(len(core.getvalue()) - 1)
    with pytest.raises(EOFError, match="ends 0x1 before 0x5000"):
        check_pattern.check(FRAMES.tobytes(), core)


GUEST = f"""#!{sys.executable}
# As QEMU is started, and with the words of a guest: the first time it dies before it has any.
import os, sys, time
fds = {{w.split(",")[1][3:]: int(w.split("fd=")[1]) for w in sys.argv if w.startswith("socket,")}}
os.write(fds["qmp"], b'{{"QMP": {{}}}}\\n')
os.read(fds["qmp"], 1000)
os.write(fds["qmp"], b'{{"return": {{}}}}\\n')
if not os.path.exists(sys.argv[0] + ".boots"):
    open(sys.argv[0] + ".boots", "w")
    os.write(fds["console"], b"early\\r\\n")
    log = open(sys.argv[sys.argv.index("-D") + 1], "w")
    print("CPU Reset", "Triple fault", "RIP=0", sep="\\n", file=log)
    sys.exit("cannot go on")
os.write(fds["console"], b"[ 1.0] Run /init as init process\\r\\n" + b"+" * 100_000)
os.write(fds["console"], b"\\r\\nthe end\\r\\n")
if "exits" in sys.argv[sys.argv.index("-append") + 1]:
    os.write(fds["control"], b"exit 7\\n")
    time.sleep(60)
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A program in place of QEMU."""
    monkeypatch.setenv("PYKEXEC_CACHE", str(tmp_path))
    (tmp_path / "qemu").write_text(GUEST)
    (tmp_path / "qemu").chmod(0o755)
    return Machine(str(tmp_path / "qemu"), tmp_path / "kernel", tmp_path / "initrd")


@pytest.mark.parametrize(("append", "status"), [("", NO_STATUS), ("exits", 7)])
def test_a_kernel_that_does_not_boot_is_started_again(
    machine: Machine, tmp_path: Path, append: str, status: int
) -> None:
    """And the reason is reported; if it then ends, the complete console is available."""
    with pytest.warns(UserWarning, match="the first kernel did not boot") as warned:
        result = replace(machine, append=append).run(tmp_path / "files")
    (output,) = [str(warning.message) for warning in warned]
    words = ("QEMU ended with status 1", "cannot go on", "Triple fault\nRIP=0", "early", "no mark")
    assert [word for word in words if word not in output] == []
    assert result.status == status
    assert result.booted
    assert len(result.console) > 100_000
    assert result.console_lines[-1].text == "the end"
