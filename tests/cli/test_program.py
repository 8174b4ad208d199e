"""The program as a process: help, errors, exit statuses, pipes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from errno import errorcode
from pathlib import Path
from typing import Any

import click
import pytest

from pykexec.cli.program import CLOSED_PIPE, VERBS, program
from pykexec.cli.streams import INTERRUPTED
from pykexec.documents.codec import plain
from pykexec.errors import KexecError
from pykexec.syscalls import SyscallError
from tests.cli.conftest import Run, RunJson
from tests.documents import validate

PYKEXEC = [sys.executable, "-m", "pykexec"]


def process(*words: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PYKEXEC, *words], capture_output=True, text=True, timeout=60, **more)


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the package importable from any current folder."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


def test_the_help_lines_are_those_of_the_verbs() -> None:
    context = click.Context(program)
    for verb, (_, line) in VERBS.items():
        command = program.get_command(context, verb)
        assert command
        assert command.get_short_help_str(200) == line
        assert command.name in (verb, "command"), verb


def test_version(run: Run) -> None:
    assert run("--version").stdout == "pykexec 0.1.0\n"


ERRORS = [
    (["lod"], 2, "no such command 'lod'; did you mean 'load'?", "see pykexec --help"),
    (["load"], 2, "missing argument 'KERNEL'", "see pykexec load --help"),
    (
        ["load", "k", "--append", "root=/dev/vda1", "ro", "--dry-run"], 2,
        "got unexpected extra argument (ro)",
        'put quotes around the words of --append: --append "root=/dev/vda1 ro"',
    ),
    (
        ["load", "k", "ro", "--append", "root=/dev/vda1"], 2,
        "got unexpected extra argument (ro)", "see pykexec load --help",
    ),
    (
        ["-l", "bzImage"], 2, "no such option '-l'",
        "see pykexec --help; pykexec-kexec has the options of kexec(8), such as -l",
    ),
    (
        ["load", "-p", "bzImage"], 2, "no such option '-p'",
        "see pykexec load --help; pykexec-kexec has the options of kexec(8), such as -p",
    ),
    (
        ["unload", "--hotplug"], 2, "no such option '--hotplug'",
        "see pykexec unload --help; pykexec-kexec has the options of kexec(8), such as --hotplug",
    ),
    (["unload", "--frobnicate"], 2, "no such option '--frobnicate'", "see pykexec unload --help"),
    (
        ["load", "k", "--mode", "stubswap"], 2,
        "invalid value for '--mode': 'stubswap' is not one of 'lent', 'in-place', 'stub-swap', "
        "'kernel-swap', 'flag'; did you mean 'stub-swap'?", "see pykexec load --help",
    ),
    (
        ["load", "k", "--region", "x"], 2,
        "invalid value for '--region': 'x' is not one of 'auto', 'never'",
        "see pykexec load --help",
    ),
    (
        ["load", "k", "--mem-min", "x"], 2,
        "invalid value for '--mem-min': 'x': expected decimal or 0x hex, with an "
        "optional suffix K, M or G", "see pykexec load --help",
    ),
    (
        ["load", "k", "--mem-min", "1M", "--mem-min", "1M"], 2,
        "option '--mem-min' is given twice", "see pykexec load --help",
    ),
    (
        ["machine", "create", "m", "--seed", "1", "--seed=2"], 2,
        "option '--seed' is given twice", "see pykexec machine create --help",
    ),
    (["load", "k", "--dry-run"], 1, "k: cannot be opened: No such file or directory", None),
    (["vmcore", "info", "bzImage"], 1, "bzImage: not a dump: it starts with "
     r"'\x00\x00\x00\x00\x00\x00\x00\x00'",
     "a dump is a copy of /proc/vmcore, or what makedumpfile or QEMU wrote of one"),
    (["status", "--machine", "nowhere"], 1,
     "nowhere: not a simulated machine, because it has no machine.json",
     "use pykexec machine create nowhere"),
    (["rehearse", "bzImage", "--mode", "in-place"], 2, "--mode in-place is for --engine qemu",
     "see pykexec rehearse --help"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "status", "message", "hint"), ERRORS)
def test_errors_in_words(
    run: Run, words: list[str], status: int, message: str, hint: str | None
) -> None:
    result = run(*words, status=status)
    assert result.stdout == ""
    expected = f"pykexec: {message}\n" + (f"  hint: {hint}\n" if hint else "")
    assert result.stderr == expected


@pytest.mark.parametrize(("words", "status", "message", "hint"), ERRORS)
def test_errors_in_json(
    run: Run, words: list[str], status: int, message: str, hint: str | None
) -> None:
    result = run(*words, "--json", status=status)
    assert result.stderr == ""
    document = json.loads(result.stdout)
    validate(document)
    assert document["error"]["message"] == message
    assert document["error"]["hint"] == hint


def test_json_behind_two_dashes_is_a_file_name(run: Run) -> None:
    result = run("vmcore", "info", "--", "--json", status=1)
    assert result.stdout == ""
    assert result.stderr == (
        "pykexec: --json: cannot be opened: No such file or directory\n"
        "  hint: check the name of the file\n"
    )


def test_facts_are_in_the_document(run_json: RunJson) -> None:
    words = ["load", "bzImage", "--crash-by-normal", "--machine", "m", "--dry-run"]
    run_json("machine", "create", "m", "--memory", "64M")
    document = run_json(*words, "--crash-size", "60M", status=6)
    assert document["error"]["code"] == "window"
    assert document["error"]["size"] == 60 << 20


def test_every_verb_without_words_says_how_to_use_it(run: Run) -> None:
    assert "Usage: pykexec machine" in run("machine", status=2).stderr
    assert "Usage: pykexec [OPTIONS] COMMAND" in run(status=2).stderr


def test_interrupted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pykexec.cli.run.vmcore.open_core", stop)
    result = run("vmcore", "info", "bzImage", status=INTERRUPTED)
    assert "pykexec: interrupted\n" in result.stderr


def test_a_closed_pipe_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    process("machine", "create", "m", "--memory", "128M")
    words = ["load", "bzImage", "--crash-by-normal", "--crash-size", "32M", "--machine", "m"]
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # it hides a short write
    pipe = subprocess.PIPE
    with subprocess.Popen([*PYKEXEC, *words, "--json"], stdout=pipe, stderr=pipe) as child:
        assert child.stdout
        assert child.stderr
        child.stdout.read(10)
        child.stdout.close()
        assert b"Traceback" not in child.stderr.read()
        assert child.wait(30) == CLOSED_PIPE


ANSWERS = [
    "--help", "--version", "load --help", "explain EINVAL", "doctor --json", "status --machine m",
]  # fmt: skip
UNWRITABLE = {">/dev/full": "no space left on device", ">&-": "bad file descriptor"}


def shell(words: str, redirected: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run it from a shell, with these redirections."""
    command = f'exec "$0" -m pykexec {words} {redirected}'
    return subprocess.run(
        ["sh", "-c", command, sys.executable],
        capture_output=True,
        text=True,
        env=os.environ | env,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("words", "out", "unbuffered"),
    [*((words, out, "") for words in ANSWERS for out in UNWRITABLE), ("-h", ">/dev/full", "1")],
)
def test_an_answer_that_cannot_be_given(words: str, out: str, unbuffered: str) -> None:
    process("machine", "create", "m", "--memory", "128M")
    done = shell(words, out, PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 1
    shown = [line for line in done.stderr.splitlines() if "note:" not in line]
    assert shown[0] == f"pykexec: standard output: {UNWRITABLE[out]}"
    assert shown[1:] in ([], ["  hint: give it a place that can be written"])


EFFECTS = {
    "load bzImage --machine m": "the normal image is loaded",
    "load bzImage --machine m --json": "the normal image is loaded",
    "unload --machine m": "the normal image is freed",
    "machine create other --memory 128M": "the machine is made",
    "machine capture file": "file is written",
}


@pytest.mark.parametrize("out", UNWRITABLE)
@pytest.mark.parametrize("words", EFFECTS)
def test_what_was_done_is_said_where_the_answer_is_lost(words: str, out: str) -> None:
    process("machine", "create", "m", "--memory", "128M")
    done = shell(words, out)
    assert done.returncode == 1
    expected = f"pykexec: standard output: {UNWRITABLE[out]}; {EFFECTS[words]} nevertheless"
    assert done.stderr.splitlines()[0] == expected


def test_a_load_whose_report_is_lost_is_a_load() -> None:
    process("machine", "create", "m", "--memory", "128M")
    assert shell("load bzImage --machine m", ">&- 2>&-").returncode == 1
    assert process("status", "--machine", "m").stdout.split()[:2] == ["normal", "loaded"]


@pytest.mark.parametrize("out", UNWRITABLE)
@pytest.mark.parametrize("words", ["inspect missing", "lod", "lod --json"])
def test_a_refusal_keeps_its_status_and_its_words(words: str, out: str) -> None:
    plain = shell(words, "")
    done = shell(words, out)
    assert done.returncode == plain.returncode
    assert done.stderr.startswith("pykexec: ")
    if "--json" not in words:
        assert done.stderr == plain.stderr


@pytest.mark.parametrize("err", ["2>/dev/full", "2>&-"])
@pytest.mark.parametrize(
    ("words", "status", "start"),
    [
        ("load bzImage", 0, "simulated: "),
        ("load bzImage --crash-by-normal --crash-size 32M --json", 0, "{"),
        ("inspect missing", 1, ""),
        ("lod", 2, ""),
        ("machine", 2, ""),
    ],
)
def test_diagnostics_decide_nothing(words: str, status: int, start: str, err: str) -> None:
    """Notes and warnings that cannot be written; the first load prints a note that it creates a
    machine."""
    done = shell(words, err)
    assert done.returncode == status
    assert done.stdout.startswith(start)
    assert bool(done.stdout) == bool(start)


def test_notes_go_to_a_reader_that_went_away() -> None:
    """The first load creates a simulated machine, and prints a note."""
    read, write = os.pipe()
    os.close(read)
    words = [*PYKEXEC, "load", "bzImage"]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=write, text=True, timeout=60)
    os.close(write)
    assert done.returncode == 0
    assert "loaded (normal slot)" in done.stdout


def test_notes_go_to_a_pipe_that_is_full_and_does_not_wait() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    with suppress(BlockingIOError):
        while True:
            os.write(write, bytes(4096))
    words = [*PYKEXEC, "load", "bzImage"]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=write, text=True, timeout=60)
    os.close(read)
    os.close(write)
    assert done.returncode == 0
    assert "loaded (normal slot)" in done.stdout


@pytest.mark.parametrize("words", ["--help", "--version", "explain EINVAL", "doctor", ""])
def test_a_reader_that_went_away_is_quiet(words: str) -> None:
    read, write = os.pipe()
    os.close(read)
    env = {"_PYKEXEC_COMPLETE": "bash_complete", "COMP_WORDS": "pykexec lo", "COMP_CWORD": "1"}
    done = subprocess.run(
        [*PYKEXEC, *words.split()],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | ({} if words else env),
        timeout=60,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (CLOSED_PIPE, "")


@pytest.mark.parametrize("out", UNWRITABLE)
def test_completion_that_cannot_be_given(out: str) -> None:
    env = {"_PYKEXEC_COMPLETE": "bash_complete", "COMP_WORDS": "pykexec lo", "COMP_CWORD": "1"}
    done = shell("", out, **env)
    assert (done.returncode, done.stderr) == (1, f"pykexec: standard output: {UNWRITABLE[out]}\n")


@pytest.mark.parametrize("closed", ["<&-", "<&- 2>&-"])
def test_streams_that_are_closed(closed: str) -> None:
    """No other file gets their descriptors."""
    process("machine", "create", "m", "--memory", "128M")
    done = shell("load bzImage --machine m", closed)
    assert (done.returncode, done.stderr) == (0, "")
    assert process("status", "--machine", "m").stdout.split()[:2] == ["normal", "loaded"]


def test_an_ascii_terminal_and_a_file_name_that_is_not() -> None:
    env = os.environ | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    result = process("load", "kernel-é\udcff\x1b[2J", "--dry-run", env=env)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "\x1b" not in result.stderr
    assert "cannot be opened: No such file or directory" in result.stderr


def test_facts_that_are_addresses_are_hex() -> None:
    from pykexec.cli.report.error import error_document

    error = KexecError("no", hint="h", entry=4096, count=3, kinds=(1, "a"), none=None)
    assert plain(error_document(error))["error"] == {
        "code": "failed", "message": "no", "hint": "h",
        "entry": "0x1000", "count": 3, "kinds": [1, "a"], "none": None,
    }  # fmt: skip


def test_what_the_kernel_answered_is_a_document_too() -> None:
    """ENOTSUPP, 524, has no name outside of the kernel."""
    from pykexec.cli.report.error import error_document

    for errno in (*errorcode, 524):
        validate(plain(error_document(SyscallError("kexec_load(entry=0x1000)", errno, rule=None))))


@pytest.mark.parametrize(
    ("text", "words", "backend"),
    [
        ("BACKEND=kernel\n", (), "kernel"),
        ("BACKEND=\n", (), "simulated"),
        ("", (), "simulated"),
        ("BACKEND=kernel\n", ("--backend", "simulated"), "simulated"),
        ("BACKEND=kernel\n", ("--machine", "m"), "simulated"),
    ],
)
def test_the_configuration_has_the_default_backend(
    folder: Path, text: str, words: tuple[str, ...], backend: str
) -> None:
    (folder / "pykexec.conf").write_text(text)
    with click.Context(program) as context:
        verb = program.get_command(context, "load")
    assert verb
    assert verb.make_context("load", ["bzImage", *words]).params["backend"] == backend


def test_a_backend_that_does_not_exist_is_not_guessed(folder: Path, run: Run) -> None:
    (folder / "pykexec.conf").write_text("BACKEND=kernl\n")
    done = run("load", "bzImage", "--dry-run", status=2)
    assert "BACKEND=kernl: expected simulated or kernel" in done.stderr
