from __future__ import annotations

import pytest

from pykexec.errors import KexecError
from pykexec.host.kallsyms import symbol_addresses

from .conftest import KALLSYMS, MakeTree

ZEROS = "0000000000000000 T _text\n0000000000000000 B kexec_image\n"


def test_addresses(tree: MakeTree) -> None:
    root = tree({})
    assert symbol_addresses(["kexec_image", "_text"], root) == {
        "kexec_image": 0xFFFFFFFF8300AA00,
        "_text": 0xFFFFFFFF81000000,
    }
    assert symbol_addresses([], root) == {}


def test_module_does_not_hide_the_kernel(tree: MakeTree) -> None:
    text = "ffffffffc0001000 b kexec_image\t[evil]\n" + KALLSYMS + "ffffffffc0002000 b _text\n"
    root = tree({"/proc/kallsyms": text})
    assert symbol_addresses(["kexec_image"], root) == {"kexec_image": 0xFFFFFFFF8300AA00}


REFUSALS: list[tuple[str, dict[str, str | bytes | None], str, str, int]] = [
    (
        "kptr_restrict hides them from root too",
        {"/proc/kallsyms": ZEROS, "/proc/sys/kernel/kptr_restrict": "2\n"},
        "/proc/kallsyms: addresses are hidden from all users (kernel.kptr_restrict is 2)",
        "set sysctl kernel.kptr_restrict=1, and restore it afterwards",
        4,
    ),
    (
        "no CAP_SYSLOG",
        {"/proc/kallsyms": ZEROS, "/proc/sys/kernel/kptr_restrict": "1\n"},
        "/proc/kallsyms: addresses are hidden from this process",
        "run as root (CAP_SYSLOG is needed)",
        4,
    ),
    (
        "hidden, and nobody says why",
        {"/proc/kallsyms": ZEROS, "/proc/sys/kernel/kptr_restrict": None},
        "/proc/kallsyms: addresses are hidden from this process",
        "run as root (CAP_SYSLOG is needed)",
        4,
    ),
    (
        "a kernel that lists functions only",
        {"/proc/kallsyms": "ffffffff81000000 T _text\n"},
        "/proc/kallsyms: has no symbol kexec_image",
        "the kernel needs CONFIG_KALLSYMS_ALL=y",
        5,
    ),
    (
        "no kallsyms",
        {"/proc/kallsyms": None},
        "/proc/kallsyms: no such file or directory",
        "the kernel needs CONFIG_KALLSYMS=y",
        5,
    ),
    (
        "not an address",
        {"/proc/kallsyms": "zz B kexec_image\n"},
        "/proc/kallsyms: invalid literal for int() with base 16: b'zz'",
        "the kernel needs CONFIG_KALLSYMS=y",
        5,
    ),
]


@pytest.mark.parametrize(
    ("changes", "message", "hint", "status"), [row[1:] for row in REFUSALS],
    ids=[row[0] for row in REFUSALS],
)  # fmt: skip
def test_refusal(
    tree: MakeTree, changes: dict[str, str | bytes | None], message: str, hint: str, status: int
) -> None:
    with pytest.raises(KexecError) as caught:
        symbol_addresses(["_text", "kexec_image"], tree(changes))
    assert (str(caught.value), caught.value.hint) == (message, hint)
    assert caught.value.exit_status == status
