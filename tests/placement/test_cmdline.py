"""The command line: tokens, who asked for them, and what is never inherited."""

from __future__ import annotations

import pytest

from pykexec.errors import UsageError
from pykexec.placement.cmdline import (
    CommandLineTooLong,
    Origin,
    check_length,
    command_line,
    key_of,
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


def test_length_is_counted_in_bytes_without_the_nul() -> None:
    line = command_line(["ü" * 10])
    check_length(line, 20)
    with pytest.raises(CommandLineTooLong, match="has 20 bytes, this kernel takes 19"):
        check_length(line, 19)
