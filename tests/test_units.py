"""The units, rules and hooks: every command in them exists, with the options they use."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from pykexec.cli.program import program

ROOT = Path(__file__).resolve().parents[1]
UNITS = ROOT / "systemd"
pytestmark = pytest.mark.skipif(not UNITS.exists(), reason="no units beside the package")


def commands() -> list[list[str]]:
    """Each pykexec command in the units, as words."""
    found = []
    for unit in sorted(UNITS.glob("*.service")):
        for line in re.findall(r"^Exec\w+=(.*)$", unit.read_text(), re.MULTILINE):
            inner = re.findall(r"(pykexec [^|']*)", line) or []
            found += [shlex.split(text) for text in inner]
    return [words for words in found if words[0] == "pykexec"]


def test_there_are_commands() -> None:
    assert {words[1] for words in commands()} == {"load", "unload", "status"}


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_option_exists(words: list[str]) -> None:
    with click.Context(program) as context:
        verb = program.get_command(context, words[1])
    assert verb is not None
    known = {name for param in verb.params for name in param.opts}
    assert {word for word in words if word.startswith("--")} <= known


REARM = "systemctl --no-block restart pykexec-rearm.service"


@pytest.mark.parametrize("asks", ["98-pykexec.rules", "zz-pykexec", "pykexec-check.service"])
def test_one_unit_knows_how_to_arm_anew(asks: str) -> None:
    lines = [line for line in (UNITS / asks).read_text().splitlines() if line[:1] != "#"]
    asked = [line for line in lines if "systemctl" in line]
    assert asked
    assert all(line.count("systemctl") == line.count(REARM) == 1 for line in asked)


def test_variables_are_those_of_the_configuration() -> None:
    text = (UNITS / "pykexec-crash.service").read_text()
    given = set(re.findall(r"^(\w+)=", (UNITS / "pykexec.default").read_text(), re.MULTILINE))
    assert set(re.findall(r"\$\{(\w+)\}", text)) == given


def test_no_unit_has_a_mount_namespace_of_its_own() -> None:
    """The huge pages would be given back with it."""
    private = re.compile(r"^(PrivateTmp|PrivateMounts|ProtectSystem|ReadOnlyPaths)=", re.MULTILINE)
    assert [unit.name for unit in UNITS.glob("*.service") if private.search(unit.read_text())] == []


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """With a pykexec that systemd can find, and without the units of other packages."""
    for unit in UNITS.glob("pykexec-*"):
        text = unit.read_text().replace("=pykexec ", "=/bin/true ")
        (tmp_path / unit.name).write_text(text)
    names = [str(path) for path in sorted(tmp_path.glob("pykexec-*"))]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *names],
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if "pykexec" in line]
    assert said == []


def test_the_hook_is_a_shell_script() -> None:
    subprocess.run(["sh", "-n", str(UNITS / "zz-pykexec")], check=True)
