"""Which rules and services of other packages would unload our image."""

from __future__ import annotations

from pathlib import Path

import pytest

from pykexec.host.captured import capture, decode, encode
from pykexec.host.others import kdump_units, reload_rules
from pykexec.host.root import Folder
from pykexec.machine import Unknown

DEBIAN = 'SUBSYSTEM=="memory", ACTION=="online", PROGRAM="/usr/sbin/kdump-config try-reload"\n'
FEDORA = 'RUN+="/usr/bin/systemd-run --no-block /usr/lib/udev/kdump-udev-throttler"\n'
OURS = 'SUBSYSTEM=="cpu", ACTION=="online", RUN+="/bin/touch /run/pykexec/changed"\n'
KDUMP_TOOLS = "/usr/lib/udev/rules.d/50-kdump-tools.rules"
OVERRIDE = "/etc/udev/rules.d/50-kdump-tools.rules"
FOR_NOW = "/run/udev/rules.d/50-kdump-tools.rules"
KEXEC, SUSE = "/usr/lib/udev/rules.d/98-kexec.rules", "/etc/udev/rules.d/70-kdump.rules"
OLD = "/lib/udev/rules.d/50-kdump-tools.rules"
RULES: list[tuple[str, dict[str, str], tuple[str, ...]]] = [
    ("none", {"/usr/lib/udev/rules.d/60-block.rules": DEBIAN}, ()),
    ("Debian", {KDUMP_TOOLS: DEBIAN}, (KDUMP_TOOLS,)),
    ("before the merged /usr", {OLD: DEBIAN}, (OLD,)),
    ("several, by their names", {KEXEC: FEDORA, SUSE: DEBIAN}, (SUSE, KEXEC)),
    ("masked", {KDUMP_TOOLS: DEBIAN, OVERRIDE: "-> /dev/null"}, ()),
    ("masked for now", {KDUMP_TOOLS: DEBIAN, FOR_NOW: "-> /dev/null"}, ()),
    ("replaced by nothing", {KDUMP_TOOLS: DEBIAN, OVERRIDE: ""}, ()),
    ("replaced by a comment", {KDUMP_TOOLS: DEBIAN, OVERRIDE: f"# {DEBIAN}"}, ()),
    ("replaced by another", {KDUMP_TOOLS: "", OVERRIDE: DEBIAN}, (OVERRIDE,)),
    ("a mask further down", {KDUMP_TOOLS: "-> /dev/null", OVERRIDE: DEBIAN}, (OVERRIDE,)),
    ("no rules file", {f"{KDUMP_TOOLS}.dpkg-old": DEBIAN}, ()),
    ("what cannot be read", {KDUMP_TOOLS: "-> /nowhere"}, (KDUMP_TOOLS,)),
    ("our own", {"/etc/udev/rules.d/98-pykexec.rules": f"{OURS}# kexec\n"}, ()),
]


def machine(folder: Path, files: dict[str, str]) -> Folder:
    """Files, and links where the contents say so, in a folder."""
    for path, contents in files.items():
        place = folder / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if contents.startswith("-> "):
            place.symlink_to(contents.removeprefix("-> "))
        else:
            place.write_text(contents)
    return Folder(folder)


@pytest.mark.parametrize(("files", "found"), [row[1:] for row in RULES], ids=[r[0] for r in RULES])
def test_rules(tmp_path: Path, files: dict[str, str], found: tuple[str, ...]) -> None:
    root = machine(tmp_path, files)
    assert reload_rules(root) == found
    captured = decode(encode(capture(root)), "captured")
    assert reload_rules(captured) == found


ETC, LIB = "/etc/systemd/system", "/usr/lib/systemd/system"
UNITS: list[tuple[str, dict[str, str], tuple[str, ...]]] = [
    ("installed", {f"{LIB}/kdump.service": "[Unit]"}, ()),
    (
        "enabled",
        {f"{ETC}/basic.target.wants/kdump-tools.service": f"-> {LIB}/kdump-tools.service"},
        ("kdump-tools.service",),
    ),
    (
        "enabled by the distribution",
        {f"{LIB}/multi-user.target.wants/kdump.service": "-> ../kdump.service"},
        ("kdump.service",),
    ),
    (
        "masked",
        {
            f"{LIB}/multi-user.target.wants/kdump.service": "-> ../kdump.service",
            f"{ETC}/kdump.service": "-> /dev/null",
        },
        (),
    ),
    (
        "what saves the dump is no matter",
        {f"{ETC}/basic.target.wants/kdump-tools-dump.service": "-> /x"},
        (),
    ),
]


@pytest.mark.parametrize(("files", "found"), [row[1:] for row in UNITS], ids=[r[0] for r in UNITS])
def test_units(tmp_path: Path, files: dict[str, str], found: tuple[str, ...]) -> None:
    root = machine(tmp_path, {f"{ETC}/sshd.service": "", **files})
    assert kdump_units(root) == found
    captured = decode(encode(capture(root)), "captured")
    assert kdump_units(captured) == found


def test_a_machine_without_udev_and_systemd_is_unknown(tmp_path: Path) -> None:
    root = Folder(tmp_path)
    assert reload_rules(root) == Unknown("/usr/lib/udev/rules.d: no such file or directory")
    assert kdump_units(root) == Unknown("/etc/systemd: no such file or directory")
    (tmp_path / "etc").mkdir()
    old = decode(b'{"schema": "pykexec.capture/1", "files": {}, "folders": {}}', "old")
    assert isinstance(reload_rules(old), Unknown)
    assert isinstance(kdump_units(old), Unknown)
