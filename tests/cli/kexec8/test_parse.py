"""Parsing of kexec(8) options: abbreviations, bundles, any order."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest

from pykexec.cli.kexec8.options import BY_LONG, OPTIONS, Handling
from pykexec.cli.kexec8.parse import address
from pykexec.cli.kexec8.wishes import Call, Do, wishes
from pykexec.errors import UsageError

VERBS = {
    "": None,
    "K": Do.LOAD_AND_REBOOT,
    "-l K": Do.LOAD,
    "--load K": Do.LOAD,
    "-p K": Do.LOAD,
    "-l -p K": Do.LOAD,
    "-lp K": Do.LOAD,
    "-f K": Do.LOAD_AND_EXEC,
    "-e": Do.EXEC,
    "-e -f": Do.EXEC,
    "-u": Do.UNLOAD,
    "-u -p": Do.UNLOAD,
    "-u -l": Do.UNLOAD,
    "-S": Do.STATUS,
    "-S -l": Do.STATUS,
    "-S -u": Do.STATUS,
    "-h -e": Do.HELP,
    "-v": Do.VERSION,
    "--print-ckr-size -l": Do.REGION_SIZE,
    "-l -e": None,
    "-l -f K": None,
    "-p -e": None,
    "-p -f K": None,
    "-u -e": None,
    "-u K": None,
    "-e K": None,
    "-l": None,
    "-l K K2": None,
    "-s -c -l K": None,
    "-l K -t bzImage -t bzImage64": None,
    "-l K --mem-min 1 --mem-min 2": None,
    "-l K --args-elf --args-linux": None,
    "-l K --hotplug": None,
    "-z": None,
    "-l K --load-jump-back-helper": None,
}
"""Options: the verb, or None if they are refused."""


@pytest.mark.parametrize("words", VERBS)
def test_the_verb_whatever_the_order(words: str) -> None:
    """Every order of the words (an option's argument follows it)."""
    expected = VERBS[words]
    pairs = words.replace("-t bz", "-tbz").replace("mem-min ", "mem-min=").split()
    for order in list(permutations(pairs))[:200]:
        try:
            found = wishes(order).do
        except UsageError:
            found = None
        assert found == expected, order


@pytest.mark.parametrize(
    "words",
    [
        "-p K --append=a --initrd=I -d",
        "-d -p K --append a --initrd I",
        "-dp --command-line=a K --ramdisk=I",
        "--initr=I --app=a -pd K",
        "--load-pa --debug K --com=a --ram I",
        "-p -- K",
    ],
)
def test_spellings(words: str) -> None:
    found = wishes(words.split())
    assert (found.do, found.panic, found.kernel) == (Do.LOAD, True, Path("K"))
    if "--" not in words.split():
        assert (found.append, found.initrds, found.debug) == (("a",), (Path("I"),), True)


def test_short_options_in_one_word() -> None:
    """The last one of them may have an argument, in the same word or the next."""
    for words in (["-lidyt", "T", "K"], ["-lidytT", "K"], ["K", "-yidltT"]):
        found = wishes(words)
        assert (found.do, found.type, found.checks, found.sync) == (Do.LOAD, "T", False, False)


@pytest.mark.parametrize("words", ["-l K --mem-m=1", "-l K --re", "--l K", "-l K --kexec-s"])
def test_a_beginning_of_several_options_is_refused(words: str) -> None:
    with pytest.raises(UsageError):
        wishes(words.split())


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("10", 10), ("0x10", 16), ("010", 8), ("+7", 7), ("0xffffffffffffffff", 2**64 - 1)],
)
def test_numbers_as_strtoul_reads_them(text: str, number: int) -> None:
    assert address("mem_min", text) == number


@pytest.mark.parametrize("text", ["", "zz", "1M", "-1", "0x", "09", "1_0", "0x10000000000000000"])
def test_numbers_with_anything_behind_them(text: str) -> None:
    with pytest.raises(UsageError, match="Bad option value in --mem-min="):
        address("mem_min", text)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-l", "K", "--initrd="], "--initrd: empty file name"),
        (["-l", "K", "--ramdisk", ""], "--ramdisk: empty file name"),
        (["-l", "K", "--module="], "--module: empty file name"),
        (["-l", "K", "--entry="], "Bad option value in --entry="),
        (["-l", ""], "the kernel operand is empty"),
        (["-l", "K", ""], "the kernel operand is empty"),
    ],
)
def test_an_empty_word_is_named(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        wishes(words)
    assert caught.value.message == message


def test_an_empty_command_line_is_one() -> None:
    assert wishes(["-l", "K", "--append="]).append == ("",)


def test_the_call() -> None:
    for word, call in {
        "-s": Call.FILE,
        "-c": Call.CLASSIC,
        "-a": Call.AUTO,
        "-d": Call.AUTO,
    }.items():
        assert wishes(["-l", "K", word]).call is call


@pytest.mark.parametrize(
    "word", ["--mem-min=1", "--mem-max=1", "--entry=1", "-tbzImage", "--module=x", "--args-none"]
)
def test_what_the_file_syscall_would_ignore_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match="has no effect with -s"):
        wishes(["-s", "-l", "K", word])


def test_the_table() -> None:
    """Every option that is not supported has a reason, and synonyms agree."""
    assert len(BY_LONG) == len(OPTIONS)
    for option in OPTIONS:
        assert bool(option.why) == (option.handling is not Handling.SERVED), option.long
        twins = {(o.repeatable, bool(o.argument)) for o in OPTIONS if o.key == option.key}
        assert len(twins) == 1


@pytest.mark.parametrize(
    "option",
    [o for o in OPTIONS if o.handling in (Handling.NOTED, Handling.ALREADY)],
    ids=lambda o: o.long,
)
def test_no_option_is_ignored_in_silence(option: object) -> None:
    from pykexec.cli.kexec8.options import Option

    assert isinstance(option, Option)
    word = f"--{option.long}" + ("=1" if option.argument else "")
    found = wishes(["-l", "K", word])
    noted = [note for note in found.notes if note.startswith(f"--{option.long} has no effect")]
    assert bool(noted) == (option.handling is Handling.NOTED)


@pytest.mark.parametrize("option", [o.long for o in OPTIONS if o.handling is Handling.REFUSED])
def test_refused_in_words(option: str) -> None:
    with pytest.raises(UsageError, match=f"--{option}: "):
        wishes(["-l", "K", f"--{option}"])


def test_a_long_word_is_shown_in_part() -> None:
    with pytest.raises(UsageError) as caught:
        wishes(["--" + "x" * 5000])
    assert caught.value.message == f"option --{'x' * 80}... not recognized"
