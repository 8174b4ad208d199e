"""Every command of the README, of docs/ and of the man pages runs, or it is listed here with the
reason why not; then its options exist at least."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from pykexec.cli.program import program
from tests.builders import MIB, make_bzimage, make_cpio, write

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MANUALS = sorted((ROOT / "man").glob("*.[58]"))
NOT_RUN = {
    "pykexec setup": "changes the machine: tests/cli/test_setup.py, tests/vm/test_setup.py",
    "--engine qemu": "boots guests: tests/vm/test_rehearse.py",
    "pykexec doctor": "its exit status is what it finds on the machine: tests/flows/doctor",
    "--backend kernel": "acts on the kernel of the machine that runs it",
    "pykexec-kexec": "acts on the kernel of the machine that runs it",
    "pykexec-vmcore-dmesg": "reads the dump of a real kernel: tests/vm/test_dump_log.py",
}
"""A part of a command, and why it is not run here."""
OTHER_BLOCKS = {
    "scripts/build-deb": "installs packages: tests/test_build_deb.py, tests/vm/test_setup.py",
    "scripts/quickstart": "sets up an environment, and downloads a kernel",
    "pip install .": "installs a package: tests/test_packaging.py",
    "apt install kdump-tools": "changes the machine: tests/vm/test_service.py",
    "sh /usr/local/share/pykexec/capture/make-initrd": "the same: tests/vm/test_save.py",
    "# systemctl edit": "changes the machine",
    "/sys/kernel/kexec_crash_size": "changes the machine: tests/vm/test_region_life.py",
    "systemctl kexec": "starts a kernel: tests/vm/test_service.py",
    "ansible-": "tests/ansible/test_collection.py, tests/vm/test_fleet.py",
    "- command: pykexec setup": "a part of a playbook",
    "No.  buf ": "output",
}
"""A part of a block, or of a line in a man page, without a command of pykexec that could be run
here, and why."""


@dataclass(frozen=True)
class Example:
    """A command as the page has it; `refused` where the page shows an error as its output."""

    page: str
    command: str
    refused: bool = False

    @property
    def not_run(self) -> str | None:
        table = NOT_RUN if self.command.startswith("pykexec") else OTHER_BLOCKS
        return next((part for part in table if part in self.command), None)


def of_markdown(path: Path) -> list[Example]:
    """In a block of code: lines after "$ " or "# ", or the whole block. The blocks in Python of
    docs/python.md are run by test_api.py."""
    found = []
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", path.read_text(), re.M | re.S):
        if language:
            continue
        pieces = [
            piece
            for piece in re.split(r"^(?=[$#] )", block, flags=re.MULTILINE)
            if re.match(r"[$#] pykexec", piece)
        ]
        for piece in pieces:
            command, _, output = piece[2:].partition("\n")
            found.append(Example(path.name, command, output.startswith("pykexec: ")))
        if not pieces:
            found.append(Example(path.name, block))
    return found


def of_manual(path: Path) -> list[Example]:
    """Lines between .RS and .RE."""
    blocks = re.findall(r"^\.nf\n\.RS\n(.*?)^\.RE", path.read_text(), re.M | re.S)
    lines = "".join(blocks).replace("\\e\n", " ").replace("\\-", "-").splitlines()
    return [Example(path.name, line) for line in lines]


EXAMPLES = [
    *(example for page in PAGES for example in of_markdown(page)),
    *(example for page in MANUALS for example in of_manual(page)),
]
PAGES_THAT_RUN = sorted({example.page for example in EXAMPLES if not example.not_run})


def test_examples_are_found() -> None:
    pages = {example.page for example in EXAMPLES}
    assert {"README.md", "pykexec.8", "pykexec-kexec.8", "pykexec-vmcore-dmesg.8"} <= pages
    assert {"README.md", "fleet.md", "pykexec.8"} <= set(PAGES_THAT_RUN)
    parts = {example.not_run for example in EXAMPLES}
    assert parts - {None} == {*NOT_RUN, *OTHER_BLOCKS}


@pytest.mark.parametrize("page", PAGES_THAT_RUN)
def test_the_examples_of_a_page_run_in_their_order(page: str, tmp_path: Path) -> None:
    (tmp_path / "boot").mkdir()
    for folder in (tmp_path, tmp_path / "boot"):
        for suffix in ("", f"-{os.uname().release}"):
            write(folder, f"vmlinuz{suffix}", make_bzimage())
            write(folder, f"initrd.img{suffix}", make_cpio(("init", b"#!/bin/sh\n")))
    write(tmp_path, "vmlinuz-new", make_bzimage(init_size=200 * MIB))
    (tmp_path / "captures").mkdir()
    for captured in (ROOT / "tests/host/x86").glob("pc-[!f]*.json"):
        shutil.copy(captured, tmp_path / "captures")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYKEXEC")},
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    for example in EXAMPLES:
        if example.page != page or example.not_run:
            continue
        command = example.command.replace("/boot/", "boot/")
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert (done.returncode != 0) == example.refused, (command, done.stdout, done.stderr)


@pytest.mark.parametrize(
    "example",
    [item for item in EXAMPLES if item.not_run and item.command.startswith("pykexec ")],
    ids=lambda item: item.command,
)
def test_what_is_not_run_has_options_that_exist(example: Example) -> None:
    words = shlex.split(example.command)
    command: click.Command | None = program
    with click.Context(program) as context:
        for word in words[1:]:
            if isinstance(command, click.Group):
                command = command.get_command(context, word)
    assert command is not None, example.command
    known = {name for param in command.params for name in param.opts}
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known
