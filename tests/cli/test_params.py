from __future__ import annotations

from pathlib import Path

import click
import pytest

from pykexec.cli.verbs.params import ADDR, SIZE, AddrType
from tests.cli.conftest import Run

GOOD = [
    ("0", 0),
    ("4096", 4096),
    ("010", 10),
    ("0x1000", 0x1000),
    ("0XfF", 0xFF),
    ("16M", 16 << 20),
    ("16m", 16 << 20),
    ("64k", 64 << 10),
    ("3G", 3 << 30),
    ("0x10M", 16 << 20),
    ("0xffffffffffffffff", (1 << 64) - 1),
    ("18446744073709551615", (1 << 64) - 1),
]
BAD = ["", " 1", "1 ", "-1", "+1", "1_000", "1T", "1MB", "0x", "x10", "1.5G", "１", "1\n"]
TOO_LARGE = ["18446744073709551616", "17179869184G", "0xffffffffffffffffK"]


@pytest.mark.parametrize(("text", "number"), GOOD)
def test_addresses(text: str, number: int) -> None:
    assert ADDR.convert(text, None, None) == number


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(click.BadParameter, match="expected decimal or 0x hex"):
        ADDR.convert(text, None, None)


@pytest.mark.parametrize("kind", [ADDR, SIZE])
@pytest.mark.parametrize("text", TOO_LARGE)
def test_more_than_64_bits(text: str, kind: AddrType) -> None:
    with pytest.raises(click.BadParameter, match="has more than 64 bits"):
        kind.convert(text, None, None)


def test_a_size_is_not_zero() -> None:
    with pytest.raises(click.BadParameter, match="'0K': a size is at least 1"):
        SIZE.convert("0K", None, None)
    assert SIZE.convert("1", None, None) == 1


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["load", ""], "KERNEL"),
        (["load", "bzImage", "--initrd="], "--initrd"),
        (["load", "bzImage", "--initrd", "initrd", "--initrd", ""], "--initrd"),
        (["load", "bzImage", "--dry-run", "--root", ""], "--root"),
        (["load", "bzImage", "--machine", ""], "--machine"),
        (["inspect", ""], "FILE"),
        (["inspect", "bzImage", "--extract", "vmlinux", ""], "--extract"),
        (["rehearse", "bzImage", "--initrd="], "--initrd"),
        (["vmcore", "verify", ""], "FILE"),
        (["machine", "create", ""], "DIR"),
    ],
)
def test_an_empty_word_is_named(run: Run, words: list[str], name: str) -> None:
    """As from a script with an unset variable; Path("") is the current folder."""
    before = sorted(Path().iterdir())
    output = run(*words, status=2).stderr
    assert output.startswith(
        f"pykexec: invalid value for '{name}': a file name must not be empty\n"
    )
    assert sorted(Path().iterdir()) == before


@pytest.mark.parametrize("line", ["", " args"])
def test_an_empty_module_is_named(run: Run, line: str) -> None:
    output = run("load", "bzImage", "--dry-run", "--module", line, status=2).stderr
    assert output.startswith(f"pykexec: module {line!r} does not begin with a file name\n")
