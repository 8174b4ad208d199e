"""/etc/pykexec.conf: lines KEY=value, in the syntax of systemd's EnvironmentFile= and of a shell.

A value may be in single or double quotes. Nothing is expanded. `#` and `;` begin a comment at the
start of a line.
"""

from __future__ import annotations

import re
import shlex

from pykexec.errors import UsageError

PATH = "/etc/pykexec.conf"
SIZE_MAX = 1 << 20
"""Bytes."""
FAULTS_SHOWN = 5
KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class BadConfiguration(UsageError):
    """A line that is not KEY=value, a value that cannot be used, or a file that cannot be read."""

    code = "bad-configuration"
    usual_hint = "write one KEY=value on each line; see pykexec(8)"


def parse(text: str, name: str = PATH) -> tuple[dict[str, str], list[BadConfiguration]]:
    """The values, and one error for each invalid line, up to FAULTS_SHOWN; one for all lines if
    none is valid. If a key occurs several times, the last value counts."""
    values: dict[str, str] = {}
    faults: list[BadConfiguration] = []
    for number, line in enumerate(map(str.strip, text.split("\n")), 1):
        if not line or line[0] in "#;":
            continue
        key, separator, value = line.partition("=")
        if not separator or not KEY.fullmatch(key):
            faults.append(BadConfiguration(f"{name}:{number}: not KEY=value: {line[:60]!r}"))
            continue
        try:
            values[key] = _unquoted(value.strip())
        except ValueError as error:
            faults.append(BadConfiguration(f"{name}:{number}: {key}: {str(error).lower()}"))
    return values, _limited(faults, name, bool(values))


def _limited(faults: list[BadConfiguration], name: str, some_valid: bool) -> list[BadConfiguration]:
    """The errors to show of those in all lines of a file."""
    if len(faults) > 1 and not some_valid:
        message = f"{name}: not a configuration file: no line is KEY=value"
        return [BadConfiguration(message, hint="check the name of the file")]
    more = len(faults) - FAULTS_SHOWN
    if more < 1:
        return faults
    return [*faults[:FAULTS_SHOWN], BadConfiguration(f"{name}: {more} more lines are invalid")]


def _unquoted(value: str) -> str:
    """A value as a shell reads it if it is completely quoted, otherwise unchanged. Raises
    ValueError for an unclosed quotation mark."""
    if value[:1] not in ("'", '"'):
        return value
    words = shlex.split(value)
    if len(words) != 1:
        raise ValueError("text after the closing quotation mark")
    return words[0]


def read_configuration(
    path: str | None = None,
) -> tuple[dict[str, str], list[BadConfiguration]]:
    """As `parse`, for a file that must exist, or for /etc/pykexec.conf, which may be missing."""
    name = path or PATH
    try:
        with open(name, "rb") as file:
            text = file.read(SIZE_MAX + 1)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and path is None:
            return {}, []
        return {}, [BadConfiguration(f"{name}: {(error.strerror or str(error)).lower()}")]
    if len(text) > SIZE_MAX:
        return {}, [BadConfiguration(f"{name}: larger than {SIZE_MAX} bytes")]
    return parse(text.decode("utf-8", "replace"), name)


BACKENDS = ("simulated", "kernel")
DEFAULTS = PATH
"""The file with the default of an option."""


def configured_backend() -> str:
    """BACKEND= of /etc/pykexec.conf, by default the simulated one. Raises BadConfiguration for
    another word, because either guess would be a mistake."""
    values, _ = read_configuration(DEFAULTS)
    found = values.get("BACKEND") or BACKENDS[0]
    if found not in BACKENDS:
        raise BadConfiguration(
            f"{DEFAULTS}: BACKEND={found[:60]}: expected {' or '.join(BACKENDS)}",
            hint=f"set BACKEND= in {DEFAULTS} to one of them",
        )
    return found
