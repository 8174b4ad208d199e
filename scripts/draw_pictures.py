"""Draws docs/pictures; see scripts/pictures.

SVG without scripts, fonts or references to other files, so that every viewer shows it.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import os
import pty
import random
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from rich.console import Console
from rich.text import Text

from pykexec.abi.hugetlb import HUGE_PAGE_SIZE
from pykexec.arch import X86_64
from pykexec.images.contents import joined_initrd
from pykexec.images.identify import identify
from pykexec.memory.ranges import align_up
from pykexec.placement.estimate import crash_size
from pykexec.placement.request import Mode
from pykexec.placement.stage import pages_apart
from pykexec.placement.x86.layout import limits_of

MIB = 1 << 20
RAM = 1024 * MIB
DEBIAN_RESERVES = 128 * MIB
"""What kdump-tools of Debian 12 reserves on machines with 384 MiB or more."""
INITRD_PACKED, INITRD_UNPACKED = 12 * MIB, 30 * MIB
"""The initrd of the same kdump-tools, with MODULES=dep."""
REGION = 64 << 10
APART = pages_apart(limits_of(X86_64), Mode.IN_PLACE)
"""Huge pages besides those of the window."""

TITLE = "Memory of a machine of 1 GiB, with the initrd of Debian's kdump-tools"
PAPER, INK, FAINT = "#ffffff", "#1f2933", "#9aa5b1"
FREE, LOST, HELD, RUNS, OLD = "#dbeafe", "#b91c1c", "#f59e0b", "#15803d", "#93c5fd"
FONT = "font-family='Helvetica, Arial, sans-serif'"
TERMINAL_COLUMNS = 110


@dataclass(frozen=True)
class Piece:
    """`size` bytes of a bar from `start` on."""

    start: int
    size: int
    colour: str
    label: str = ""


@dataclass(frozen=True)
class Bar:
    """All memory of a machine, and one sentence about it."""

    title: str
    note: str
    pieces: tuple[Piece, ...]


def bars(window: int, loaded: int) -> tuple[Bar, ...]:
    """One machine of 1 GiB, six times. `window` and what mode lent holds as `loaded` are in
    bytes."""
    at = RAM - 192 * MIB
    held = window + APART * HUGE_PAGE_SIZE
    stub = Piece(RAM // 8, 4 * MIB, HELD)
    return (
        Bar(
            "kdump",
            f"{DEBIAN_RESERVES // MIB} MiB are reserved at boot; nothing else can use them",
            (Piece(at, DEBIAN_RESERVES, LOST, "reserved"),),
        ),
        Bar(
            "pykexec, before the load",
            "nothing is reserved, or 64 KiB",
            (stub,),
        ),
        Bar(
            "pykexec, armed",
            f"a stub waits in the 64 KiB, the capture kernel in {held // MIB} MiB of huge pages",
            (stub, Piece(at, window, HELD, "held")),
        ),
        Bar(
            "armed in mode lent",
            f"only {loaded // MIB} MiB are held: applications use the window until the panic",
            (stub, Piece(at, window, OLD), Piece(at + window // 2, loaded, HELD)),
        ),
        Bar(
            "after a panic",
            "the stub starts the capture kernel, which sees all other memory as it was",
            (
                Piece(0, at, OLD, "contents of the crashed kernel: /proc/vmcore"),
                Piece(at, window, RUNS, "capture kernel"),
                Piece(at + window, RAM - at - window, OLD),
            ),
        ),
        Bar("after pykexec unload", "every page is free again; no reboot", ()),
    )


def memory_picture(window: int, loaded: int) -> str:
    """The memory in use at each time."""
    width, left, top, row = 960, 40, 64, 84
    scale = (width - 2 * left) / RAM
    rows = bars(window, loaded)
    body = [words(left, 34, TITLE, 18, weight="bold")]
    for number, bar in enumerate(rows):
        y = top + number * row
        body.append(words(left, y + 12, bar.title, 14, weight="bold"))
        body.append(words(left + 230, y + 12, bar.note, 13))
        body.append(box(left, y + 22, width - 2 * left, 30, FREE))
        for piece in bar.pieces:
            x, wide = left + piece.start * scale, max(piece.size * scale, 3)
            body.append(box(x, y + 22, wide, 30, piece.colour))
            if piece.label:
                colour = INK if piece.colour == OLD else PAPER
                body.append(words(x + wide / 2, y + 42, piece.label, 12, colour, "middle"))
    return svg(width, top + len(rows) * row, body)


STEPS = (
    (
        HELD,
        "pykexec load",
        "places kernel, initrd and headers,",
        "and gives the stub to the kernel",
    ),
    (LOST, "the kernel panics", "and jumps to the stub,", "as to any crash image"),
    (HELD, "the stub", "verifies every digest, exchanges", "pages, starts the capture kernel"),
    (
        RUNS,
        "the capture kernel",
        "boots in the window, and shows",
        "the old memory in /proc/vmcore",
    ),
    (RUNS, "its initrd", "saves the log and the dump,", "and reboots the machine"),
)
"""The actors in order, each with its colour and two lines about what it does."""
ARROW = "\N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK}"


def sequence_picture() -> str:
    """From the load to the saved dump."""
    wide, gap, height = 216, 24, 128
    width = len(STEPS) * (wide + gap) + gap
    body: list[str] = []
    for number, (colour, who, first, second) in enumerate(STEPS):
        x = gap + number * (wide + gap)
        body.append(box(x, 20, wide, height - 40, PAPER, FAINT))
        body.append(box(x, 20, wide, 6, colour))
        body.append(words(x + 10, 50, who, 14, weight="bold"))
        body.append(words(x + 10, 74, first, 11))
        body.append(words(x + 10, 90, second, 11))
        if number:
            body.append(words(x - gap / 2, 68, ARROW, 18, FAINT, "middle"))
    return svg(width, height, body)


def terminal_picture(kernel: Path) -> str:
    """`pykexec rehearse` as a terminal shows it."""
    shown = on_terminal(kernel, ("pykexec", "rehearse", "vmlinuz", "--memory", "512M"))
    console = Console(record=True, width=TERMINAL_COLUMNS, file=io.StringIO())
    console.print(Text("$ pykexec rehearse vmlinuz --memory 512M", style="bold"))
    console.print(Text.from_ansi(shown), soft_wrap=True)
    picture = console.export_svg(title="pykexec rehearse", unique_id="pykexec")
    return "\n".join(line for line in without_fonts(picture.splitlines()) if line.strip()) + "\n"


def without_fonts(lines: Sequence[str]) -> Iterator[str]:
    """The picture without the @font-face rules, which would load a font from the network."""
    inside = False
    for line in lines:
        inside = inside or "@font-face" in line
        if not inside:
            yield line.replace("Fira Code, monospace", "monospace").rstrip()
        inside = inside and "}" not in line


def on_terminal(kernel: Path, command: Sequence[str]) -> str:
    """What a command prints on a terminal, in a folder where the kernel is `vmlinuz`."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(kernel, Path(folder) / "vmlinuz")
        pieces: list[bytes] = []

        def read(fd: int) -> bytes:
            pieces.append(os.read(fd, 1 << 16))
            return pieces[-1]

        os.environ.update(COLUMNS=str(TERMINAL_COLUMNS), LINES="60", TERM="xterm-256color")
        with contextlib.chdir(folder):
            # Standard error is no terminal, so that there is no bar, which a picture cannot show.
            apart = f"set -o pipefail; exec 3>&1; {shlex.join(command)} 2>&1 >&3 | cat"
            status = pty.spawn(["bash", "-c", apart], read)
    text = b"".join(pieces).decode().replace("\r\n", "\n")
    if status:
        raise SystemExit(f"{' '.join(command)} failed:\n{text}")
    return text


def words(
    x: float, y: float, text: str, size: int, colour: str = INK, anchor: str = "start",
    weight: str = "normal",
) -> str:  # fmt: skip
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size}' fill='{colour}' {FONT} "
        f"text-anchor='{anchor}' font-weight='{weight}'>{escape(text)}</text>"
    )


def box(x: float, y: float, wide: float, high: float, colour: str, edge: str = "none") -> str:
    return (
        f"<rect x='{x:.1f}' y='{y:.1f}' width='{wide:.1f}' height='{high:.1f}' "
        f"fill='{colour}' stroke='{edge}'/>"
    )


def svg(width: int, height: int, body: Sequence[str]) -> str:
    lines = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}'>",
        box(0, 0, width, height, PAPER),
        *body,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def initrd_of_kdump_tools(folder: Path) -> Path:
    """A file of the same sizes: a cpio archive (newc) of one file, packed."""
    fields = (1, 0o100644, 0, 0, 1, 0, INITRD_UNPACKED, 0, 0, 0, 0, len(b"data\0"), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields) + b"data\0\0"
    data = random.Random(0).randbytes(INITRD_PACKED).ljust(INITRD_UNPACKED, b"\0")
    path = folder / "initrd"
    path.write_bytes(gzip.compress(header + data, compresslevel=1))
    return path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kernel", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    args = parser.parse_args()
    args.folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        initrd = joined_initrd([initrd_of_kdump_tools(Path(folder))])
        window = crash_size(identify(args.kernel), initrd, ("root=/dev/vda1",)).size
    loaded = args.kernel.stat().st_size + INITRD_PACKED
    loaded = align_up(loaded, HUGE_PAGE_SIZE) + APART * HUGE_PAGE_SIZE
    pictures = {
        "memory.svg": memory_picture(window, loaded),
        "sequence.svg": sequence_picture(),
        "rehearse.svg": terminal_picture(args.kernel),
    }
    for name, text in pictures.items():
        (args.folder / name).write_text(text)


if __name__ == "__main__":
    main()
