"""How makedumpfile is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pykexec.flows.save.settings import Compression, SaveSettings

COMPRESSIONS: dict[Compression, tuple[str, ...]] = {
    "zlib": ("-c",),
    "lzo": ("-l",),
    "snappy": ("-p",),
    "zstd": ("-z",),
    "none": (),
}
LEVEL_ALL, LEVEL_USER = 31, 8
"""Dump levels: everything that can be left out (zero pages 1, cache 2 and 4, user 8, free 16), and
user pages."""
MESSAGES = "7"
"""Message level of makedumpfile: progress indicator 1, common messages 2, error messages 4."""


def level_for(settings: SaveSettings, slab_flag: bool) -> int:
    """The dump level. `slab_flag` is whether VMCOREINFO has NUMBER(PG_slab), as in kernels up to
    6.9: without it makedumpfile 1.7.2 treats slab pages as user pages, and -d 31 loses tasks
    (measured with 6.12 and 7.2; -d 23 does not lose any)."""
    if settings.level is not None:
        return settings.level
    return LEVEL_ALL if slab_flag else LEVEL_ALL - LEVEL_USER


def dump_command(
    settings: SaveSettings, program: str, source: str, target: str | None, slab_flag: bool
) -> tuple[str, ...]:
    """The command line. Without `target` the dump is flattened and goes to standard output."""
    compressed = COMPRESSIONS[settings.compression]
    several = settings.threads > 1 and compressed and target
    return (
        program,
        *compressed,
        *("-d", str(level_for(settings, slab_flag))),
        *(("--num-threads", str(settings.threads)) if several else ()),
        *("--message-level", MESSAGES),
        *((source, target) if target else ("-F", source)),
    )
