"""pykexec-kexec(8) documents every option and exit status, and nothing that does not exist."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import pykexec
from pykexec.cli.kexec8.options import OPTIONS, Handling
from pykexec.cli.kexec8.usage import SPEAKS, usage

PAGE = Path(pykexec.__file__).parents[1] / "man" / "pykexec-kexec.8"
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="no man page beside the package")
OF_PYKEXEC = {"--dry-run", "--crash-by-normal"}


def page() -> str:
    """Without the escapes of roff."""
    return re.sub(r"\\f[A-Z]", "", PAGE.read_text().replace("\\-", "-"))


def options(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--?[a-zA-Z](?:[\w-]*\w)?(?![\w-])", text))


def known() -> set[str]:
    shorts = {f"-{option.short}" for option in OPTIONS if option.short}
    return {f"--{option.long}" for option in OPTIONS} | shorts


def test_the_same_options() -> None:
    body = page().partition(".SH NAME")[2]
    assert options(body) - {"-r"} == known() | OF_PYKEXEC


def test_each_under_its_title() -> None:
    body = page().partition(".SS Options without effect")[2].partition(".SH ")[0]
    without, _, refused = body.partition(".SS Options that are refused")
    named = {kind: {f"--{o.long}" for o in OPTIONS if o.handling is kind} for kind in Handling}
    assert options(refused) - OF_PYKEXEC == named[Handling.REFUSED]
    assert options(without) == (named[Handling.NOTED] | named[Handling.ALREADY]) - {"--no-ifdown"}


def test_help_has_them_too() -> None:
    text = "\n".join(usage())
    assert known() <= options(text.replace(",", " ").replace("=", " "))
    assert max(map(len, text.splitlines())) <= 100


def test_statuses_and_versions() -> None:
    body = page().partition(".SH EXIT STATUS")[2].partition(".SH ")[0]
    assert re.findall(r"\.B (\d+)", body) == ["0", "1", "255"]
    assert f'"pykexec {pykexec.__version__}"' in page()
    assert f"kexec-tools {SPEAKS} " in page()


@pytest.mark.skipif(not shutil.which("groff"), reason="no groff here")
def test_groff_is_silent() -> None:
    result = subprocess.run(
        ["groff", "-ww", "-man", "-z", str(PAGE)], capture_output=True, text=True, check=True
    )
    assert result.stderr == ""
