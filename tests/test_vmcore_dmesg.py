"""pykexec-vmcore-dmesg(8) has every exit status of the program, and groff accepts it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import pykexec
from pykexec import vmcore_dmesg

PAGE = Path(pykexec.__file__).parents[1] / "man" / "pykexec-vmcore-dmesg.8"
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="no man page beside the package")


def test_every_exit_status_is_in_the_page() -> None:
    body = PAGE.read_text().partition(".SH EXIT STATUS")[2].partition(".SH ")[0]
    names = (
        "USAGE",
        "NOT_OPENED",
        "NO_DUMP",
        "NO_LOG",
        "NOT_WRITTEN",
        "NOT_READ",
        "CLOSED_PIPE",
        "INTERRUPTED",
    )
    known = {0} | {getattr(vmcore_dmesg, name) for name in names}
    assert {int(number) for number in re.findall(r"\b\d+\b", body)} == known


def test_the_page_is_of_this_version() -> None:
    assert f'"pykexec {pykexec.__version__}"' in PAGE.read_text()


@pytest.mark.skipif(not shutil.which("groff"), reason="no groff here")
def test_groff_is_silent() -> None:
    words = ["groff", "-ww", "-man", "-z", str(PAGE)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stderr == ""
