"""The completion files of pykexec-kexec are made from its table of options, and work."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pykexec.cli.kexec8.image import TYPES
from pykexec.cli.kexec8.options import OPTIONS, Handling, Option

ROOT = Path(__file__).resolve().parents[3]
OFFERED = [option for option in OPTIONS if option.handling is not Handling.REFUSED]
FILE_ARGUMENTS = ("FILE", '"FILE ARGS"')
KNOWN_TYPES = " ".join(sorted(TYPES))


def names(options: list[Option], equals: str = "") -> list[str]:
    """-x and --long of each."""
    return [
        word
        for option in options
        for word in (f"-{option.short}" if option.short else "", f"--{option.long}{equals}")
        if word
    ]


def description(option: Option) -> str:
    """The help of an option, where that is "The same." with what it is the same as."""
    first = next(other for other in OPTIONS if other.key == option.key)
    return option.help if first is option else f"The same as --{first.long}."


def bash() -> str:
    files = [option for option in OFFERED if option.argument in FILE_ARGUMENTS]
    texts = [o for o in OFFERED if o.argument not in ("", "TYPE", *FILE_ARGUMENTS)]
    return f"""_pykexec_kexec() {{
    local current=$2
    COMPREPLY=()
    case $3 in
        {"|".join(names(files))}) compopt -o default; return ;;
        {"|".join(names(texts))}) return ;;
        -t|--type) COMPREPLY=($(compgen -W "{KNOWN_TYPES}" -- "$current")); return ;;
    esac
    if [[ $current == -* ]]; then
        COMPREPLY=($(compgen -W "{" ".join(names(OFFERED))}" -- "$current"))
    else
        compopt -o default
    fi
}}
complete -F _pykexec_kexec pykexec-kexec
"""


def zsh() -> str:
    lines = ["#compdef pykexec-kexec", "_arguments -s \\"]
    for option in OFFERED:
        long = f"--{option.long}"
        text = description(option).replace("'", "'\\''").replace("[", "\\[").replace("]", "\\]")
        text = text.replace(":", "\\:")
        value = f":{option.argument.lower()}:{zsh_action(option)}" if option.argument else ""
        value = value.replace('"', "")
        again = "*" if option.repeatable else ""
        if option.short and option.argument:
            first = f"'{again}'{{-{option.short}+,{long}=}}"
        elif option.short:
            first = f"'{again}'{{-{option.short},{long}}}"
        else:
            first = f"'{again}{long}{'=' if option.argument else ''}'"
        lines.append(f"    {first}'[{text}]{value}' \\")
    return "\n".join([*lines, "    '::kernel:_files'"]) + "\n"


def zsh_action(option: Option) -> str:
    if option.argument in FILE_ARGUMENTS:
        return "_files"
    return f"({KNOWN_TYPES})" if option.argument == "TYPE" else ""


def fish() -> str:
    lines = []
    for option in OFFERED:
        words = ["complete", "--command", "pykexec-kexec"]
        words += ["--short-option", option.short] if option.short else []
        words += ["--long-option", option.long]
        if option.argument in FILE_ARGUMENTS:
            words += ["--require-parameter", "--force-files"]
        elif option.argument:
            words.append("--exclusive")
        if option.argument == "TYPE":
            words += ["--arguments", f"'{KNOWN_TYPES}'"]
        text = description(option).replace("\\", "\\\\").replace("'", "\\'")
        lines.append(" ".join([*words, "--description", f"'{text}'"]))
    return "\n".join(lines) + "\n"


FILES = {
    "bash/pykexec-kexec": bash,
    "zsh/_pykexec-kexec": zsh,
    "fish/pykexec-kexec.fish": fish,
}


@pytest.mark.parametrize("name", FILES)
def test_the_files_are_current(name: str, request: pytest.FixtureRequest) -> None:
    """--update-golden writes them, like golden files."""
    path = ROOT / "completions" / name
    if request.config.getoption("--update-golden"):
        path.write_text(FILES[name]())
    assert path.read_text() == FILES[name]()


CASES = [
    ("pykexec-kexec --load-", "--load-panic"),
    ("pykexec-kexec -t bz", "bzImage bzImage64"),
    ("pykexec-kexec --app", "--append"),
    ("pykexec-kexec --append x", ""),
    ("pykexec-kexec --load-live", ""),
]


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash")
@pytest.mark.parametrize(("line", "expected"), CASES)
def test_in_bash(tmp_path: Path, line: str, expected: str) -> None:
    before, _, word = line.rpartition(" ")
    code = (
        f'. "{ROOT}/completions/bash/pykexec-kexec"\ncompopt() {{ :; }}\n'
        f"_pykexec_kexec pykexec-kexec '{word}' '{before.split()[-1]}'\n"
        'echo "${COMPREPLY[*]}"\n'
    )
    done = subprocess.run(
        ["bash", "-c", code], env=os.environ, capture_output=True, text=True, cwd=tmp_path
    )
    assert (done.stdout.strip(), done.stderr) == (expected, "")


@pytest.mark.parametrize("name", list(FILES)[1:])
def test_the_shell_can_read_it(name: str) -> None:
    shell = name.partition("/")[0]
    program = shutil.which(shell)
    if not program:
        pytest.skip(f"no {shell}")
    done = subprocess.run([program, "-n", str(ROOT / "completions" / name)], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
