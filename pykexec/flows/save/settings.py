"""The settings for saving in /etc/pykexec.conf: the keys SAVE_*, each with its default.

In a capture kernel a mistake in one of them must not prevent the dump: each invalid value is a
separate error, and its default is used.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pykexec.host.configuration import BadConfiguration, read_configuration

Finally = Literal["reboot", "halt", "poweroff", "shell"]
FINALLY: tuple[Finally, ...] = ("reboot", "halt", "poweroff", "shell")
Method = Literal["auto", "makedumpfile", "copy"]
METHODS: tuple[Method, ...] = ("auto", "makedumpfile", "copy")
Compression = Literal["zlib", "lzo", "snappy", "zstd", "none"]
COMPRESSIONS: tuple[Compression, ...] = ("zlib", "lzo", "snappy", "zstd", "none")
FOLDER = "/var/crash"
PREFIX = "SAVE_"
SIZE = re.compile(r"([0-9]{1,15})([KMGT]?)")
SIZE_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
TIME = re.compile(r"([0-9]{1,9})(s|min|h)?")
TIME_UNITS = {None: 1, "s": 1, "min": 60, "h": 3600}
STEP_TIME_MAX, DUMP_TIME_MAX = 1800, 6 * 3600
"""Seconds: all steps together stay below TimeoutStartSec= of pykexec-save.service."""


@dataclass(frozen=True, slots=True)
class SaveSettings:
    """`free` is in bytes, `step_time` and `dump_time` in seconds. `level` is None to select one for
    the crashed kernel. `command` gets each file on its standard input."""

    folder: str = FOLDER
    device: str | None = None
    command: tuple[str, ...] | None = None
    method: Method = "auto"
    level: int | None = None
    compression: Compression = "zlib"
    threads: int = 0
    keep: int = 3
    free: int = 1 << 30
    step_time: int = 120
    dump_time: int = 3600
    finally_: Finally = "reboot"
    recipient: str | None = None
    hook: tuple[str, ...] | None = None


def settings_of(values: Mapping[str, str]) -> tuple[SaveSettings, list[BadConfiguration]]:
    """The settings in keys that begin with SAVE_; an empty value means the default."""
    settings = SaveSettings()
    faults = []
    for key, text in values.items():
        if not key.startswith(PREFIX):
            continue
        if key not in KEYS:
            faults.append(BadConfiguration(f"{key}: unknown key", hint=f"keys: {', '.join(KEYS)}"))
            continue
        field, read = KEYS[key]
        try:
            if text:
                settings = replace(settings, **{field: read(text)})
        except ValueError as error:
            faults.append(BadConfiguration(f"{key}={text[:60]}: {error}"))
    return settings, faults


def read_settings(path: Path | None = None) -> tuple[SaveSettings, list[BadConfiguration]]:
    """The settings in a file, or in /etc/pykexec.conf."""
    values, faults = read_configuration(str(path) if path else None)
    settings, more = settings_of(values)
    return settings, [*faults, *more]


def absolute(text: str) -> str:
    if not text.startswith("/") or "\0" in text:
        raise ValueError("expected an absolute path")
    return text


def words(text: str) -> tuple[str, ...]:
    return tuple(shlex.split(text))


def number(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch("[0-9]{1,9}", text) or not least <= int(text) <= most:
            raise ValueError(f"expected a number from {least} to {most}")
        return int(text)

    return read


def size(text: str) -> int:
    """Bytes."""
    found = SIZE.fullmatch(text)
    if not found:
        raise ValueError("expected a size, such as 500M or 2G")
    return int(found[1]) * SIZE_UNITS[found[2]]


def seconds(most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        found = TIME.fullmatch(text)
        time = int(found[1]) * TIME_UNITS[found[2]] if found else 0
        if not 0 < time <= most:
            raise ValueError(f"expected a time of at most {most // 60}min, such as 90s or 10min")
        return time

    return read


def _one_of(values: tuple[str, ...]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in values:
            raise ValueError(f"expected {', '.join(values[:-1])} or {values[-1]}")
        return text

    return read


def _dump_level(text: str) -> int | None:
    return None if text == "auto" else number(0, 31)(text)


KEYS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "SAVE_FOLDER": ("folder", absolute),
    "SAVE_DEVICE": ("device", str),
    "SAVE_COMMAND": ("command", words),
    "SAVE_METHOD": ("method", _one_of(METHODS)),
    "SAVE_LEVEL": ("level", _dump_level),
    "SAVE_COMPRESSION": ("compression", _one_of(COMPRESSIONS)),
    "SAVE_THREADS": ("threads", number(0, 1024)),
    "SAVE_KEEP": ("keep", number(1, 1000)),
    "SAVE_FREE": ("free", size),
    "SAVE_STEP_TIME": ("step_time", seconds(STEP_TIME_MAX)),
    "SAVE_DUMP_TIME": ("dump_time", seconds(DUMP_TIME_MAX)),
    "SAVE_FINALLY": ("finally_", _one_of(FINALLY)),
    "SAVE_AGE_RECIPIENT": ("recipient", str),
    "SAVE_HOOK": ("hook", words),
}
"""Key: its field, and the function that parses its text (raises ValueError)."""
