from __future__ import annotations

import pytest

from pykexec.abi.kexec import KexecFlag
from pykexec.backends.kernel.relocation import Move, Relocation, relocation
from pykexec.machine import Machine, Unknown, version

OLD_SYMBOLS = frozenset({"kexec_image", "relocate_kernel"})
NEW_SYMBOLS = OLD_SYMBOLS | {"kexec_pa_swap_page"}
NO_JUMP = {"CONFIG_KEXEC": "y", "CONFIG_KEXEC_JUMP": "n"}
JUMP = {"CONFIG_KEXEC_JUMP": "y"}
HIDDEN = Unknown("/proc/kallsyms: permission denied")
PRESERVE = KexecFlag.KEXEC_PRESERVE_CONTEXT


def machine(
    release: str | Unknown,
    symbols: frozenset[str] | Unknown = OLD_SYMBOLS,
    config: dict[str, str] | Unknown = NO_JUMP,
    architecture: str | Unknown = "x86_64",
) -> Machine:
    return Machine("m", release=release, symbols=symbols, config=config, architecture=architecture)


CASES: list[tuple[str, Machine, Relocation, KexecFlag | None]] = [
    (
        "Debian 12: swaps",
        machine("6.1.0-40-amd64"),
        Relocation(
            Move.SWAP, None,
            "Linux 6.1.0 is older than 6.14, and has no kexec_pa_swap_page; "
            "CONFIG_KEXEC_JUMP is not set",
        ),
        KexecFlag(0),
    ),
    (
        "Debian unstable: copies, and cannot jump",
        machine("7.3.4-amd64", NEW_SYMBOLS),
        Relocation(
            Move.COPY, None,
            "it has the symbol kexec_pa_swap_page; CONFIG_KEXEC_JUMP is not set",
        ),
        None,
    ),
    (
        "a new kernel that can jump swaps when asked to",
        machine("6.14.0", NEW_SYMBOLS, JUMP),
        Relocation(
            Move.COPY, Move.SWAP, "it has the symbol kexec_pa_swap_page; CONFIG_KEXEC_JUMP=y"
        ),
        PRESERVE,
    ),
    (
        "a vendor's 5.14 with the new code: the symbol counts more than the release",
        machine("5.14.0-700.el9.x86_64", NEW_SYMBOLS),
        Relocation(
            Move.COPY, None,
            "it has the symbol kexec_pa_swap_page; CONFIG_KEXEC_JUMP is not set",
        ),
        None,
    ),
    (
        "6.14 without a symbol in sight",
        machine("6.14-rc1", HIDDEN),
        Relocation(
            Move.COPY, None, "Linux 6.14.0 is 6.14 or later; CONFIG_KEXEC_JUMP is not set"
        ),
        None,
    ),
    (
        "the last one that swaps",
        machine("6.13.12", HIDDEN, JUMP),
        Relocation(
            Move.SWAP, Move.SWAP,
            "Linux 6.13.12 is older than 6.14, according to its release only; CONFIG_KEXEC_JUMP=y",
        ),
        KexecFlag(0),
    ),
    (
        "2.6.29: i386 alone swapped",
        machine("2.6.29"),
        Relocation(
            Move.COPY, None, "Linux 2.6.29 is older than 2.6.30; CONFIG_KEXEC_JUMP is not set"
        ),
        None,
    ),
    (
        "2.6.30: x86_64 too",
        machine("2.6.30.1", config=JUMP),
        Relocation(
            Move.SWAP, Move.SWAP,
            "Linux 2.6.30 is older than 6.14, and has no kexec_pa_swap_page; CONFIG_KEXEC_JUMP=y",
        ),
        KexecFlag(0),
    ),
    (
        "build options that cannot be read",
        machine("6.14.0", HIDDEN, Unknown("/boot/config-6.14.0: no such file or directory")),
        Relocation(
            Move.COPY, Move.UNKNOWN,
            "Linux 6.14.0 is 6.14 or later; KEXEC_JUMP unknown: "
            "/boot/config-6.14.0: no such file or directory",
        ),
        None,
    ),
    (
        "no release",
        machine(Unknown("not read"), HIDDEN),
        Relocation(
            Move.UNKNOWN, None, "release unknown: not read; CONFIG_KEXEC_JUMP is not set"
        ),
        None,
    ),
    (
        "a release that is no version",
        machine("linux-next", HIDDEN),
        Relocation(Move.UNKNOWN, None, "release linux-next; CONFIG_KEXEC_JUMP is not set"),
        None,
    ),
    (
        "arm64 copies in every version",
        machine("6.1.0", architecture="aarch64"),
        Relocation(Move.COPY, None, "aarch64 copies"),
        None,
    ),
    (
        "i386",
        machine("6.1.0", architecture="i686"),
        Relocation(Move.UNKNOWN, Move.UNKNOWN, "unknown for i686"),
        None,
    ),
    (
        "no architecture",
        machine("6.1.0", architecture=Unknown("not read")),
        Relocation(Move.UNKNOWN, Move.UNKNOWN, "architecture unknown: not read"),
        None,
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("subject", "expected", "flags"), [row[1:] for row in CASES], ids=[row[0] for row in CASES]
)
def test_relocation(subject: Machine, expected: Relocation, flags: KexecFlag | None) -> None:
    found = relocation(subject)
    assert found == expected
    assert found.swap_flags == flags


VERSIONS = [
    ("6.1.0-40-amd64", (6, 1, 0)),
    ("6.14-rc1", (6, 14, 0)),
    ("2.6.32-754.el6.x86_64", (2, 6, 32)),
    ("7.3.4+deb14-cloud-amd64", (7, 3, 4)),
    ("6.18.44-fc-v595", (6, 18, 44)),
    ("6", None),
    ("", None),
    ("x6.1", None),
]


@pytest.mark.parametrize(("release", "found"), VERSIONS)
def test_version(release: str, found: tuple[int, int, int] | None) -> None:
    assert version(release) == found
