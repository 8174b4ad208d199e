"""/etc/pykexec.conf: lines, and what the keys SAVE_* mean."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.flows.save.dump_command import dump_command, level_for
from pykexec.flows.save.settings import KEYS, SaveSettings, read_settings, settings_of
from pykexec.host.configuration import PATH, parse

EXAMPLE = """
# comment
; comment
SAVE_FOLDER=/srv/crash
SAVE_COMMAND=ssh -o BatchMode=yes host 'cat > "/dumps/%d %f"'
SAVE_HOOK="/usr/local/bin/crashed --mail"
  SAVE_FREE = 2G
SAVE_DUMP_TIME='90min'
OTHER=1
SAVE_KEEP=5
SAVE_KEEP=7
"""


def test_an_example() -> None:
    values, faults = parse(EXAMPLE)
    assert [fault.message for fault in faults] == [f"{PATH}:7: not KEY=value: 'SAVE_FREE = 2G'"], (
        "no blank before the equals sign, as in a shell"
    )
    settings, faults = settings_of(values)
    assert faults == []
    assert settings == SaveSettings(
        folder="/srv/crash",
        command=("ssh", "-o", "BatchMode=yes", "host", 'cat > "/dumps/%d %f"'),
        hook=("/usr/local/bin/crashed", "--mail"),
        dump_time=5400,
        keep=7,
    )


@pytest.mark.parametrize(
    ("line", "output"),
    [
        ("SAVE_FOLDER=var", "SAVE_FOLDER=var: expected an absolute path"),
        ("SAVE_LEVEL=32", "SAVE_LEVEL=32: expected a number from 0 to 31"),
        ("SAVE_KEEP=0", "SAVE_KEEP=0: expected a number from 1 to 1000"),
        ("SAVE_FREE=1.5G", "SAVE_FREE=1.5G: expected a size, such as 500M or 2G"),
        (
            "SAVE_DUMP_TIME=7h",
            "SAVE_DUMP_TIME=7h: expected a time of at most 360min, such as 90s or 10min",
        ),
        ("SAVE_FINALLY=sleep", "SAVE_FINALLY=sleep: expected reboot, halt, poweroff or shell"),
        ("SAVE_COMMAND=a 'b", "SAVE_COMMAND=a 'b: No closing quotation"),
        ("SAVE_FOLDERS=/a", "SAVE_FOLDERS: unknown key"),
    ],
)
def test_a_faulty_value_is_named_and_costs_nothing(line: str, output: str) -> None:
    values, _ = parse(f"{line}\nSAVE_THREADS=4\n")
    settings, faults = settings_of(values)
    assert [fault.message for fault in faults] == [output]
    assert settings == SaveSettings(threads=4)


def test_a_file_of_another_kind_is_one_error() -> None:
    text = "root:x:0:0:root:/root:/bin/bash\n" * 40
    (fault,) = parse(text, "/etc/passwd")[1]
    assert fault.message == "/etc/passwd: not a configuration file: no line is KEY=value"


def test_many_faulty_lines_are_counted() -> None:
    values, faults = parse("SAVE_KEEP=2\n" + "x\n" * 40, "f")
    assert values == {"SAVE_KEEP": "2"}
    assert [fault.message.split(": ")[0] for fault in faults] == [
        "f:2", "f:3", "f:4", "f:5", "f:6", "f"
    ]  # fmt: skip
    assert faults[-1].message == "f: 35 more lines are invalid"


@pytest.mark.parametrize("line", ["x", "=y", "A B=1", "1A=2", 'A="b', 'A="b" c', "\0=1"])
def test_a_faulty_line_is_named(line: str) -> None:
    values, faults = parse(f"A_1=x\n{line}\n")
    assert (values, [fault.message.split(": ")[0] for fault in faults]) == (
        {"A_1": "x"},
        [f"{PATH}:2"],
    )


@given(st.text())
def test_no_text_is_a_traceback(text: str) -> None:
    values, _ = parse(text)
    settings_of(dict.fromkeys(KEYS, text) | values)


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "pykexec.conf"
    path.write_text("SAVE_KEEP=2\n")
    assert read_settings(path) == (SaveSettings(keep=2), [])


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    settings, (fault,) = read_settings(tmp_path / "none")
    assert (settings, fault.message) == (
        SaveSettings(),
        f"{tmp_path}/none: no such file or directory",
    )


def test_no_configuration_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("pykexec.host.configuration.PATH", str(tmp_path / "none"))
    assert read_settings() == (SaveSettings(), [])


@pytest.mark.parametrize(
    ("given_level", "slab_flag", "level"), [(None, True, 31), (None, False, 23), (5, False, 5)]
)
def test_the_level_keeps_tasks(given_level: int | None, slab_flag: bool, level: int) -> None:
    """makedumpfile of Debian 12 takes slab pages for user pages where there is no PG_slab."""
    assert level_for(SaveSettings(level=given_level), slab_flag) == level


def words_of(settings: SaveSettings, target: str | None) -> str:
    return " ".join(dump_command(settings, "m", "/s", target, True))


def test_the_words_for_makedumpfile() -> None:
    settings = SaveSettings(threads=2)
    assert words_of(settings, "/t") == "m -c -d 31 --num-threads 2 --message-level 7 /s /t"
    assert words_of(settings, None) == "m -c -d 31 --message-level 7 -F /s"
    plain = SaveSettings(threads=2, compression="none")
    assert words_of(plain, "/t") == "m -d 31 --message-level 7 /s /t"
