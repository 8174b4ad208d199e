"""The man page documents everything in the program, and nothing else."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import pykexec
from pykexec.cli.program import CLOSED_PIPE, HUNG_UP, TERMINATED, program
from pykexec.cli.streams import INTERRUPTED
from pykexec.errors import (
    CheckFailed,
    DoesNotFit,
    KexecError,
    NotPermitted,
    NotSupported,
    UsageError,
)
from pykexec.flows.save.settings import KEYS
from tests.documents import SCHEMAS

PAGE = Path(pykexec.__file__).parents[1] / "man" / "pykexec.8"
CONFIGURATION = PAGE.with_name("pykexec.conf.5")
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="no man page beside the package")


def page() -> str:
    """Without the escapes of roff, and without commands of others in examples."""
    return re.sub(r"\\f[A-Z]|\$\(.*?\)", "", PAGE.read_text().replace("\\-", "-"))


def commands(group: click.Command = program, path: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command that is not just a group, by its words."""
    if not isinstance(group, click.Group):
        yield path, group
        return
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command
        yield from commands(command, f"{path} {name}".strip())


def options(command: click.Command) -> set[str]:
    names = {opt for param in command.params for opt in param.opts if opt.startswith("-")}
    return names | {"--help"}


def test_every_option_is_in_the_page() -> None:
    text = page()
    missing = {
        f"{path} {name}"
        for path, command in commands()
        for name in options(command)
        if not re.search(rf"(?<![\w-]){name}(?![\w-])", text)
    }
    assert missing == set()


def test_every_option_of_the_page_exists() -> None:
    known = {name for _, command in commands() for name in options(command)} | {"--version", "-h"}
    assert set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", page())) - known == set()


def sections() -> dict[str, set[str]]:
    """The options in each .SS of OPTIONS."""
    body = page().partition(".SH OPTIONS")[2].partition(".SH ")[0]
    parts = body.split("\n.SS ")[1:]
    return {
        part.partition("\n")[0]: set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", part))
        for part in parts
    }


TITLES = {
    "load": ["Options for load", "Options for load, unload, exec and status"],
    "unload": ["Options for unload", "Options for load, unload, exec and status"],
    "exec": ["Options for exec", "Options for load, unload, exec and status"],
    "status": ["Options for status", "Options for load, unload, exec and status"],
    "region make": ["Options for region", "Options for load, unload, exec and status"],
    "region show": ["Options for load, unload, exec and status"],
    "region release": ["Options for load, unload, exec and status"],
    "region build": ["Options for region"],
    "inspect": ["Options for inspect"],
    "rehearse": ["Options for rehearse"],
    "machine create": ["Options for machine create"],
    "machine show": [],
    "machine crash": [],
    "machine capture": ["Options for machine capture", "Options for machine capture and doctor"],
    "vmcore info": [],
    "vmcore verify": ["Options for vmcore verify"],
    "vmcore dmesg": ["Options for vmcore dmesg"],
    "vmcore report": [],
    "save": ["Options for save"],
    "saved": ["Options for saved"],
    "setup": ["Options for setup"],
    "doctor": ["Options for machine capture and doctor"],
    "explain": ["Options for explain"],
    "fleet plan": ["Options for fleet plan"],
    "diff": [],
}


def test_every_verb_has_its_options_under_its_title() -> None:
    found = sections()
    assert {path for path, _ in commands()} == set(TITLES)
    for path, command in commands():
        there = found["Options for every command"].union(*(found[title] for title in TITLES[path]))
        wanted = {name for name in options(command) if name.startswith("--")}
        assert wanted - there == set(), path


def test_every_exit_status_is_in_the_page() -> None:
    body = page().partition(".SH EXIT STATUS")[2].partition(".SH ")[0]
    kinds = (KexecError, UsageError, CheckFailed, NotPermitted, NotSupported, DoesNotFit)
    by_signal = (HUNG_UP, INTERRUPTED, CLOSED_PIPE, TERMINATED)
    statuses = [0, *(kind.exit_status for kind in kinds), *by_signal]
    assert re.findall(r"\.B (\d+)", body) == [str(status) for status in statuses]


def test_every_schema_is_in_the_page() -> None:
    names = {f"pykexec.{path.stem[:-2]}/{path.stem[-1]}" for path in SCHEMAS.glob("*.json")}
    assert names == set(re.findall(r"pykexec\.[a-z-]+/\d", page()))


def test_every_key_of_the_configuration_is_in_the_page() -> None:
    text = re.sub(r"\\f[A-Z]", "", CONFIGURATION.read_text().replace("\\-", "-"))
    assert set(re.findall(r"\.TP\n\.BR? ([A-Z_]+)=", text)) == {
        *(set(KEYS) - {"SAVE_DUMP_TIME"}),
        *("BACKEND", "KERNEL", "INITRD", "APPEND", "OPTIONS"),
    }
    assert "SAVE_DUMP_TIME=" in text


def test_the_page_is_of_this_version() -> None:
    assert f'"pykexec {pykexec.__version__}"' in page()


@pytest.mark.skipif(not shutil.which("groff"), reason="no groff here")
@pytest.mark.parametrize("page", [PAGE, CONFIGURATION], ids=lambda page: page.name)
def test_groff_is_silent(page: Path) -> None:
    result = subprocess.run(
        ["groff", "-ww", "-man", "-z", str(page)], capture_output=True, text=True, check=True
    )
    assert result.stderr == ""
