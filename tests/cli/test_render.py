"""On any terminal nothing is truncated, and nothing is interpreted as markup."""

from __future__ import annotations

import os
import pty
import re
import struct
import subprocess
import sys
import termios
from fcntl import ioctl
from importlib import import_module
from pathlib import Path

import pytest

from pykexec.errors import printable
from pykexec.memory.ranges import PhysRange
from tests.cli.conftest import Run
from tests.cli.test_findings import failing

PLAN = [
    "load",
    "bzImage",
    "--machine",
    "m",
    "--crash-by-normal",
    "--crash-size",
    "32M",
    "--dry-run",
]
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_terminal(words: list[str], columns: int = 80, status: int = 0, **env: str) -> str:
    """The output on a terminal of that width, without stderr."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    clean = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR", "LINES")}
    environment = clean | {"PYTHONPATH": str(Path(__file__).parents[2]), "TERM": "xterm-256color"}
    child = subprocess.Popen(
        [sys.executable, "-m", "pykexec", *words],
        stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL, env=environment | env,
    )  # fmt: skip
    os.close(theirs)
    parts = []
    while True:
        try:
            part = os.read(ours, 1 << 16)
        except OSError:
            break
        if not part:
            break
        parts.append(part)
    os.close(ours)
    assert child.wait(60) == status
    return b"".join(parts).decode()


def addresses(text: str) -> list[str]:
    return re.findall(r"0x[0-9a-f]+", ESCAPES.sub("", text))


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 100, 132, 200])
def test_no_address_is_cut(run: Run, machine: str, columns: int) -> None:
    whole = run(*PLAN).stdout
    drawn = addresses(on_terminal(PLAN, columns))
    table = [word for line in whole.splitlines()[1:8] for word in addresses(line)]
    for address in table:
        assert address in drawn, address


def test_eighty_columns_have_a_table_and_the_reasons(machine: str) -> None:
    drawn = ESCAPES.sub("", on_terminal(PLAN))
    assert "│ No. │ buf  │ bufsz  │ mem       │ memsz     │ what" in drawn
    assert "the real-mode trampoline of the capture kernel needs RAM here" in drawn
    assert max(len(line) for line in drawn.splitlines()) <= 80


def test_a_wide_terminal_has_the_reasons_in_a_column(machine: str) -> None:
    assert "│ why" in ESCAPES.sub("", on_terminal(PLAN, 160))


def test_the_window_is_drawn_to_scale(machine: str) -> None:
    drawn = ESCAPES.sub("", on_terminal(PLAN, 80)).splitlines()
    bar = next(line for line in drawn if line.startswith("  ···"))
    assert len(bar) == 78
    assert re.fullmatch(r"  ·+2+·*\d+·*", bar)


def test_colours_have_a_legend(machine: str) -> None:
    drawn = on_terminal(PLAN)
    line = next(line for line in drawn.splitlines() if "colours: " in line)
    assert "\x1b[36mfrom a file\x1b[0m" in line
    assert "\x1b[33mmade by pykexec\x1b[0m" in line
    assert "colours: " not in on_terminal(PLAN, NO_COLOR="1")
    assert "colours: " not in on_terminal(PLAN, TERM="dumb")


def test_what_helps_is_below_what_was_found_in_80_columns(run: Run) -> None:
    run("machine", "capture", "facts")
    words = ["doctor", "--root", "facts"]
    status = 3 if failing("facts") else 0
    for columns, beside in ((80, False), (160, True)):
        drawn = ESCAPES.sub("", on_terminal(words, columns, status)).splitlines()
        assert max(map(len, drawn)) <= columns
        assert any("│ fix" in line for line in drawn) is beside
        assert any(line.strip().startswith("fix: ") for line in drawn) is not beside
    narrow = ESCAPES.sub("", on_terminal(words, 40, status))
    assert "         fix: " in narrow


def test_no_color(machine: str) -> None:
    assert "\x1b[3" not in on_terminal(PLAN, NO_COLOR="1")
    assert "\x1b[36m" in on_terminal(PLAN)


def test_a_terminal_of_ascii(machine: str) -> None:
    drawn = on_terminal(PLAN, PYTHONIOENCODING="ascii", LC_ALL="C", PYTHONUTF8="0")
    assert drawn.isascii()
    assert "| No. | buf  |" in ESCAPES.sub("", drawn)


def test_kernel_text_is_no_markup(machine: str) -> None:
    words = [*PLAN, "--append", "init=[/bin/sh] [red]x :smile: 0xdeadbeef"]
    drawn = ESCAPES.sub("", on_terminal(words, 200))
    assert "init=[/bin/sh] [red]x :smile: 0xdeadbeef" in drawn


EVERY = [
    ["status", "--machine", "m"],
    ["machine", "show", "m"],
    ["machine", "show", "m", "-v"],
    ["doctor", "--root", "facts"],
    ["explain", "EINVAL"],
    ["explain", "no-hole"],
    ["inspect", "bzImage"],
    [*PLAN, "-v"],
    ["load", "bzImage", "--machine", "m"],
]


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_every_verb_draws_what_it_prints(run: Run, machine: str, words: list[str]) -> None:
    """The same addresses and names, possibly wrapped."""
    run("machine", "capture", "facts")
    status = {"status": 3}.get(words[0], 0)
    if words[0] == "doctor" and failing("facts"):
        status = 3
    plain = run(*words, status=status).stdout
    drawn = ESCAPES.sub("", on_terminal(words, 250, status=status))
    missing = [
        word for word in set(re.findall(r"[\w./-]{4,}", plain)) - {"broken"} if word not in drawn
    ]
    assert missing == []


def test_a_dump_is_drawn(run: Run, machine: str) -> None:
    run("load", "bzImage", "--machine", "m", "--crash-by-normal", "--crash-size", "32M")
    assert "the crash image, by a panic" in on_terminal(["machine", "crash", "m"])
    drawn = ESCAPES.sub("", on_terminal(["vmcore", "verify", "m/vmcore", "--machine", "m"]))
    assert "│ coverage      │ ok      │" in drawn
    assert "complete, as far as can be determined" in drawn


def test_control_characters_are_escapes() -> None:
    assert printable("a\x1b[2J\tb\udcff\n") == r"a\x1b[2J\tb\xff\n"
    assert printable("é·") == "é·"


def test_a_cell_of_the_map_is_never_empty() -> None:
    cell_range = import_module("pykexec.cli.out.render").cell_range
    around = PhysRange(0x1000, 0x1010)
    assert all(cell_range(around, at, 78).size >= 1 for at in range(78))


def test_a_long_table_is_plain() -> None:
    """A dump has ten thousand PT_LOADs, and rich takes a millisecond for each."""
    render = import_module("pykexec.cli.out.render")
    rows = [("0x1000", "0x2000")] * (render.ROWS_MAX + 1)
    assert "│" not in str(render.grid(("start", "end"), rows))
    assert isinstance(render.grid(("start", "end"), rows[:-1]), render.RichTable)
