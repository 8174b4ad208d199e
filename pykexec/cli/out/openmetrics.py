"""OpenMetrics text 1.0, which is also valid Prometheus text 0.0.4, and the file in which the
textfile collector of node_exporter reads it."""

from __future__ import annotations

import errno
import os
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Gauge:
    """One metric family with one sample; without a sample if `value` is None (unknown)."""

    name: str
    help: str
    value: float | None
    labels: tuple[tuple[str, str], ...] = ()
    unit: str = ""


def exposition(gauges: Iterable[Gauge]) -> str:
    """The complete text, with the line that ends it."""
    lines = [line for gauge in gauges for line in _exposed(gauge)]
    return "\n".join([*lines, "# EOF"]) + "\n"


def _exposed(gauge: Gauge) -> Iterator[str]:
    """The lines of one family."""
    if gauge.value is None:
        return
    yield f"# HELP {gauge.name} {gauge.help}"
    yield f"# TYPE {gauge.name} gauge"
    if gauge.unit:
        yield f"# UNIT {gauge.name} {gauge.unit}"
    labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in gauge.labels)
    yield f"{gauge.name}{f'{{{labels}}}' if labels else ''} {gauge.value:.0f}"


def _escaped(value: str) -> str:
    """A label's value; a file name may contain any character except NUL."""
    text = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def write_textfile(path: Path, text: str, warn: Callable[[list[str]], None]) -> bool:
    """Whether the file could be replaced; if not, warn: a full disk must not hide a result."""
    try:
        _replace(path, text)
    except OSError as error:
        warn([f"{path}: {(error.strerror or str(error)).lower()}"])
        return False
    return True


def _replace(path: Path, text: str) -> None:
    """Replace a file atomically, as the textfile collector of node_exporter requires, and make it
    readable for all users. Raises OSError."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file")
    with tempfile.NamedTemporaryFile(
        "w", dir=path.parent, prefix=f".{path.name}.", delete=False, encoding="utf-8"
    ) as file:
        try:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise
