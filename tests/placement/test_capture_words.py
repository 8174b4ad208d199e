"""Words that a capture kernel does not inherit, and the memory cost of the user's words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pykexec.errors import NotSupported
from pykexec.machine import Machine
from pykexec.placement.capture_kernel import (
    NO_REBOOT,
    NO_ROOT,
    capture_line,
    capture_warnings,
    saving_warnings,
)
from pykexec.placement.capture_words import (
    NEVER_INHERITED,
    append_warnings,
    dropped_warnings,
    word_costs,
)
from pykexec.placement.estimate import Estimate, Term
from pykexec.placement.request import ImageKind, LoadRequest
from tests.builders import GIB, KIB, MIB, make_machine

CAPTURE = LoadRequest(kind=ImageKind.CRASH, reuse_cmdline=True, capture_words=("nr_cpus=1",))
KDUMP_UTILS = (
    *("hugepages=8", "hugepagesz=1G", "slub_debug=P", "log_buf_len=16M", "swiotlb=65536"),
    *("hugetlb_cma=4G", "ignition.firstboot", "panic_on_warn=1", "crashkernel=64K"),
)
SIBLINGS = (
    *("default_hugepagesz=1G", "cma=256M", "cma_pernuma=64M", "page_owner=on", "slab_debug"),
    *("mem=2G", "memmap=4G$8G", "memmap=exactmap", "log-buf-len=16M", "reserve_mem=1M:4K:x"),
)


def running(text: str) -> Machine:
    return make_machine(cmdline=text)


@pytest.mark.parametrize("word", [*KDUMP_UTILS, *SIBLINGS])
def test_it_is_not_inherited(word: str) -> None:
    line = capture_line(running(f"root=/dev/vda1 {word} quiet"), CAPTURE)
    assert str(line) == "root=/dev/vda1 quiet nr_cpus=1"
    assert [item.text for item in line.dropped] == [word]


def test_what_looks_alike_stays() -> None:
    text = 'xmem=1 log_buf_len_x=2 "a log_buf_len=16M" -- hugepages=8'
    assert str(capture_line(running(text), CAPTURE)).replace("nr_cpus=1 ", "") == text


def test_the_users_own_word_is_kept() -> None:
    request = LoadRequest(
        kind=ImageKind.CRASH, reuse_cmdline=True, append=("log_buf_len=4M",), capture_words=()
    )
    line = capture_line(running("a log_buf_len=16M"), request)
    assert str(line) == "a log_buf_len=4M"


def test_a_reservation_is_left_out_without_a_warning_and_all_else_with_one() -> None:
    line = capture_line(running("BOOT_IMAGE=/k crashkernel=1G swiotlb=1 cma=1M mem=1G"), CAPTURE)
    taking, capping = dropped_warnings(line.dropped)
    assert taking.startswith("dropped from the running kernel's command line: swiotlb=1 cma=1M, ")
    assert "which would use memory of the capture kernel" in taking
    assert "mem=1G, which would limit the memory" in capping


def test_what_the_user_removed_is_no_news() -> None:
    request = LoadRequest(reuse_cmdline=True, cmdline_remove=("swiotlb",))
    line = capture_line(running("a swiotlb=1"), request)
    assert [item.why for item in line.dropped] == ["removed on request"]
    assert list(dropped_warnings(line.dropped)) == []


def test_an_unknown_line_is_refused() -> None:
    with pytest.raises(NotSupported):
        capture_line(Machine("x"), CAPTURE)


SIZES = [
    ("log_buf_len=16M", 72 * MIB),
    ("log_buf_len=9M", 72 * MIB),
    ("log_buf_len=1T", 9 * GIB),
    ("log_buf_len=1M log-buf-len=2M", 9 * MIB),
    ("swiotlb=65536", 128 * MIB),
    ("swiotlb=65536,force", 128 * MIB),
    ("swiotlb=0x10000,2,force", 128 * MIB),
    ("hugepages=64", 128 * MIB),
    ("hugepagesz=1G hugepages=2 hugepagesz=2M hugepages=16", 2 * GIB + 32 * MIB),
    ("default_hugepagesz=1G hugepages=1", GIB),
    ("hugepages=1 default_hugepagesz=1G", GIB),
    ("hugepages=0:2,1:3", 10 * MIB),
    ("cma=64M@0-4G", 64 * MIB),
    ("crashkernel=64M", 64 * MIB),
    ("crashkernel=64M,high", 64 * MIB),
    ("crashkernel=64K@16M", 64 * KIB),
    ("reserve_mem=2M:4096:trace", 2 * MIB),
    ("hugetlb_cma=0:1G,1:1G", 2 * GIB),
    ("hugetlb_cma=512M", 512 * MIB),
]


@pytest.mark.parametrize(("text", "size"), SIZES)
def test_the_size_of_a_word(text: str, size: int) -> None:
    (cost,) = word_costs(["root=/dev/vda1 " + text])
    assert cost.size == size
    assert list(append_warnings([text])) == []


@pytest.mark.parametrize(
    "text",
    [
        "page_owner=off",
        "page_owner=0",
        "kmemleak=off",
        "slub_debug=-",
        "hugepages=0",
        "hugepagesz=1G",
        "swiotlb=force",
        "swiotlb=noforce",
        "cma=0",
        "root=/dev/vda1",
    ],
)
def test_what_takes_nothing(text: str) -> None:
    assert word_costs([text]) == ()
    assert list(append_warnings([text])) == []


@pytest.mark.parametrize(
    "word",
    [
        "page_owner=on",
        "page_owner",
        "slub_debug",
        "slub_debug=FZP,kmalloc-64",
        "cma_pernuma=64M",
        "crashkernel=1G-4G:256M,4G-:1G",
        "log_buf_len=lots",
        "log_buf_len=" + "9" * 5000,
        "hugepages=many",
        "hugepages=" + "9" * 5000,
        "hugetlb_cma=0:",
    ],
)
def test_what_cannot_be_counted_is_warned_of(word: str) -> None:
    (warning,) = append_warnings([word])
    assert warning == f"{word} uses memory of the capture kernel that the estimate does not include"


@pytest.mark.parametrize("word", ["mem=512M", "memmap=exactmap", "kernelcore=1G"])
def test_what_caps_memory_is_warned_of(word: str) -> None:
    (warning,) = append_warnings([f"a {word}"])
    assert warning.startswith(f"{word} limits the memory of the capture kernel")


def test_all_warnings_of_a_capture_kernel() -> None:
    guess = Estimate((Term("kernel", 100 * MIB, ""),))
    machine = running("a swiotlb=1")
    line = capture_line(machine, CAPTURE)
    capping = replace(CAPTURE, append=("mem=1G",))
    small, dropped, capped = capture_warnings(machine, capping, 64 * MIB, guess, line)
    assert small.startswith("the window has 64 MiB, less than the estimate of")
    assert dropped.startswith("dropped from the running kernel's command line: swiotlb=1")
    assert capped.startswith("mem=1G limits")
    assert capture_warnings(machine, CAPTURE, guess.size, guess, line) == (dropped,)


@pytest.mark.parametrize(
    ("text", "warnings"),
    [
        ("root=/dev/vda1 systemd.unit=pykexec-save.target panic=10", ()),
        ("systemd.unit=pykexec-save.target panic=10", (NO_ROOT,)),
        ("root=/dev/vda1 panic=10 panic=0", (NO_REBOOT,)),
        ("root=/dev/vda1 panic=0 panic=-1", ()),
        ("systemd.unit=pykexec-save.target systemd.unit=rescue.target", ()),
        ("panic=", ()),
    ],
)
def test_a_line_that_cannot_save_a_dump(text: str, warnings: tuple[str, ...]) -> None:
    """Inherited or appended; the last word of a key counts."""
    assert saving_warnings(capture_line(running(text), CAPTURE)) == warnings
    request = LoadRequest(kind=ImageKind.CRASH, append=(text,))
    line = capture_line(running(""), request)
    assert saving_warnings(line) == warnings
    assert capture_warnings(running(""), CAPTURE, 1, Estimate(()), line) == warnings


def test_no_key_is_spelled_with_a_hyphen() -> None:
    """key_of returns underscores."""
    assert not [key for key in NEVER_INHERITED if "-" in key]
