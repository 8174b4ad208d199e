"""crash(8) with the kernel's debug symbols: what it tells about a dump."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

from pykexec.dump.reader import open_dump
from pykexec.dump.report import Report, make_report

from .supplies import Kernel, command, debug_symbols, program

COMMANDS = {
    "sys": "sys",
    "backtraces": "bt -a",
    "tasks": "ps",
    "modules": "mod",
    "registers": "help -r",
    "log": "log",
}
"""File for the answer: crash's command."""
REGISTERS = {"lr": "x30", "rflags": "eflags"}
"""Names of crash that we do not use: ours."""


@dataclass(frozen=True)
class Answers:
    """`messages` are those at the start, which show missing pages; `folder` has the answers."""

    kernel: Kernel
    dump: Path
    messages: str
    folder: Path

    def text(self, name: str) -> str:
        return (self.folder / name).read_text(errors="replace")

    @property
    def symbols(self) -> Path:
        return debug_symbols(self.kernel)

    @cached_property
    def report(self) -> Report:
        """Our own."""
        return make_report(open_dump(str(self.dump)))

    def addresses(self) -> dict[int, list[int]]:
        """CPU: the addresses of its backtrace, from the inside out. For arm64 crash shows those of
        the calls, four bytes before the return addresses."""
        call = 4 if self.kernel.architecture == "arm64" else 0
        found: dict[int, list[int]] = {}
        for cpu, part in self._by_cpu("backtraces", r"^PID: .* CPU: (\d+) "):
            lines = re.findall(r"^ *#\d+ .* at ([0-9a-f]{16})\b", part, re.M)
            found[cpu] = [int(addr, 16) + call for addr in lines]
        return found

    def registers(self) -> dict[int, dict[str, int]]:
        """CPU: what its note says, by our names."""
        found: dict[int, dict[str, int]] = {}
        for cpu, part in self._by_cpu("registers", r"^CPU (\d+):"):
            pairs = re.findall(r"(\w+): ([0-9a-f]+)", part)
            named = {name.lower(): int(value, 16) for name, value in pairs}
            found[cpu] = {REGISTERS.get(name, name): value for name, value in named.items()}
        return found

    def _by_cpu(self, name: str, start: str) -> Iterator[tuple[int, str]]:
        _, *rest = re.split(start, self.text(name), flags=re.M)
        return zip(map(int, rest[::2]), rest[1::2], strict=True)


def ask(kernel: Kernel, dump: Path, folder: Path) -> Answers:
    """Start crash once, and give it every command."""
    crash = program("crash", kernel.architecture)
    words = [*command(crash, kernel.architecture), "-s"]
    lines = [f"{question} > {name}" for name, question in COMMANDS.items()]
    done = subprocess.run(
        ["env", "TERM=dumb", *words, debug_symbols(kernel), dump],
        input="\n".join([*lines, "quit", ""]),
        cwd=folder,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=3000,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Answers(kernel, dump, done.stdout + done.stderr, folder)


def only_in_its_lane(config: pytest.Config) -> None:
    if not config.getoption("--crash-lane"):
        pytest.skip("debug symbols are some 280 MB: --crash-lane fetches them")
