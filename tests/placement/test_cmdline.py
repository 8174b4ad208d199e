"""The command line: tokens, their origin, and what is never inherited."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.errors import UsageError
from pykexec.placement.cmdline import (
    CommandLineTooLong,
    Origin,
    check_length,
    command_line,
    file_load_limit,
    key_of,
    memparse,
    split_words,
)

RUNNING = "BOOT_IMAGE=/vmlinuz-6.1 root=/dev/vda1 foo=crashkernel crashkernel=256M quiet"


def test_quotes_hold_a_word_together() -> None:
    assert split_words('a="x y" "b c"=d  e') == ('a="x y"', '"b c"=d', "e")


def test_keys_are_compared_as_parameq_does() -> None:
    assert key_of("acpi-no-memhotplug") == key_of("acpi_no_memhotplug")
    assert key_of("root=/dev/vda1") == "root"


def test_reuse_drops_the_words_of_one_boot_by_their_exact_key() -> None:
    line = command_line(["ro"], RUNNING, remove=["crashkernel"])
    assert str(line) == "root=/dev/vda1 foo=crashkernel quiet ro"
    assert [word.origin for word in line.words] == [Origin.RUNNING] * 3 + [Origin.APPEND]


def test_every_append_counts_in_its_order() -> None:
    assert str(command_line(["a b", "c"])) == "a b c"


def test_a_key_that_the_user_gave_wins() -> None:
    line = command_line(["nr_cpus=2"], capture=["elfcorehdr=0x1000", "nr-cpus=1", "irqpoll"])
    assert str(line) == "nr_cpus=2 elfcorehdr=0x1000 irqpoll"
    assert line.words[1].origin is Origin.CAPTURE


def test_nothing_of_ours_lands_behind_the_double_dash() -> None:
    assert str(command_line(["a -- init args"], capture=["irqpoll"])) == "a irqpoll -- init args"


def test_control_characters_are_refused() -> None:
    with pytest.raises(UsageError, match=r"control character '\\x00' in the command line"):
        command_line(["a\0b"])


def test_bytes_that_are_no_text_come_out_as_they_came_in() -> None:
    typed = b"x=\xff\xfe y"
    assert command_line([typed.decode(errors="surrogateescape")]).encoded == typed + b"\0"


@pytest.mark.parametrize(
    "text",
    [
        "root=/dev/vda1 ro\n",
        "root=/dev/vda1 ro\r\n",
        "root=/dev/vda1\nro",
        "\troot=/dev/vda1\v \fro\t",
        "root=/dev/vda1 \n\n ro ",
    ],
)
def test_white_space_between_appended_words_becomes_one_blank(text: str) -> None:
    assert str(command_line([text, "\n"])) == "root=/dev/vda1 ro"


@pytest.mark.parametrize("text", ["a\x1bb", "a\x7f", "\x01", 'a="b\nc"', "a\x1c b"])
def test_other_control_characters_and_those_inside_a_word_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="control character"):
        command_line([text])


@pytest.mark.parametrize(
    "running",
    ["a  b\tc", " a b", 'a "x  y"  b ', "", 'a="b\x01c"', "a -- init  args ", "a\x1cb\u00a0c"],
)
def test_the_running_line_is_passed_on_byte_for_byte(running: str) -> None:
    assert str(command_line(running=running)) == running


@given(running=st.text('ab=" \t\n-', max_size=20))
def test_reuse_is_the_identity(running: str) -> None:
    expected = running if running.strip() else ""
    assert str(command_line(running=running)) == expected
    appended = str(command_line(["x"], running))
    assert appended == (f"{expected} x" if expected else "x")


@pytest.mark.parametrize(
    ("running", "left"),
    [
        ("BOOT_IMAGE=/k  a  b ", "a  b "),
        ("a  BOOT_IMAGE=/k b", "a  b"),
        ("a  b  BOOT_IMAGE=/k", "a  b"),
        ("a b BOOT_IMAGE=/k \t", "a b"),
        ("a BOOT_IMAGE=/k BOOT_IMAGE=/l\tb", "a b"),
        ("BOOT_IMAGE=/k", ""),
        ("a -- BOOT_IMAGE=/k", "a -- BOOT_IMAGE=/k"),
    ],
)
def test_a_removed_word_takes_the_white_space_behind_it(running: str, left: str) -> None:
    line = command_line(running=running)
    assert str(line) == left
    assert all(item.why == "it describes a single boot" for item in line.dropped)


def test_what_was_dropped_is_told_with_its_reason() -> None:
    line = command_line(
        ["x=1"],
        "BOOT_IMAGE=/k nr_cpus=8 swiotlb=1 x=2 y",
        remove=["y"],
        capture=["nr-cpus=1", "x=3"],
        drop={"swiotlb": "no"},
    )
    assert str(line) == "x=2 x=1 nr-cpus=1"
    assert [(item.text, item.why) for item in line.dropped] == [
        ("BOOT_IMAGE=/k", "it describes a single boot"),
        ("nr_cpus=8", "nr-cpus=1 replaces it"),
        ("swiotlb=1", "no"),
        ("y", "removed on request"),
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("16M", (16 << 20, "")),
        ("0x10k,x", (0x10 << 10, ",x")),
        ("010", (8, "")),
        ("08", (0, "8")),
        ("1E", (1 << 60, "")),
        ("16E", None),
        ("9" * 20, None),
        ("9" * 5000, None),
        ("M", None),
        ("", None),
    ],
)
def test_memparse(text: str, found: tuple[int, str] | None) -> None:
    assert memparse(text) == found


def test_kexec_file_load_keeps_room_for_elfcorehdr_and_the_nul() -> None:
    """bzImage64_load: cmdline_len + 30 > cmdline_size is EINVAL, and cmdline_len counts the NUL."""
    assert file_load_limit(2047) == 2016
    assert file_load_limit(255) == 224
    assert file_load_limit(20) == 0


def test_length_is_counted_in_bytes_without_the_nul() -> None:
    line = command_line(["ü" * 10])
    check_length(line, 20)
    with pytest.raises(CommandLineTooLong, match="has 20 bytes, but this kernel accepts only 19"):
        check_length(line, 19)


BALLOONS = "module_blacklist=virtio_balloon,hv_balloon"


@pytest.mark.parametrize(
    ("append", "running", "last"),
    [
        ((), None, BALLOONS),
        (("module_blacklist=nouveau",), None, "module_blacklist=nouveau,virtio_balloon,hv_balloon"),
        ((), "module-blacklist=floppy", "module_blacklist=floppy,virtio_balloon,hv_balloon"),
        (
            ('module_blacklist="a,hv_balloon"',),
            "module_blacklist=b",
            "module_blacklist=b,a,hv_balloon,virtio_balloon",
        ),
    ],
)
def test_a_list_of_the_capture_kernel_has_the_users_values(
    append: tuple[str, ...], running: str | None, last: str
) -> None:
    """The kernel heeds the last word of them alone (kernel/module/main.c, core_param)."""
    line = command_line(append, running, capture=(BALLOONS,))
    found = [word.text for word in line.words if word.key == "module_blacklist"]
    assert found[-1] == last


def test_a_panic_of_the_users_own_wins() -> None:
    line = command_line(("panic=1",), "panic=0", capture=("panic=10",))
    assert [word.text for word in line.words if word.key == "panic"][-1] == "panic=1"
    assert str(command_line((), "panic=0", capture=("panic=10",))) == "panic=10"
