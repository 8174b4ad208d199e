"""The units, rules and hooks: every command in them exists, no shell reads the configuration, and
re-arming is retried as the comments say."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from pykexec.backends.saving import ending
from pykexec.cli.program import program
from pykexec.flows.save.settings import (
    DUMP_TIME_MAX,
    KEYS,
    STEP_TIME_MAX,
    SaveSettings,
    settings_of,
)
from pykexec.host.configuration import parse

ROOT = Path(__file__).resolve().parents[1]
UNITS = ROOT / "systemd"
SERVICES = sorted(UNITS.glob("*.service"))
pytestmark = pytest.mark.skipif(not UNITS.exists(), reason="no units beside the package")


def settings(text: str, name: str) -> list[str]:
    """The values of a setting, whose name is a regular expression, with continuation lines."""
    joined = re.sub(r"\\\n\s*", " ", text)
    return re.findall(rf"^{name}=(.*)$", joined, re.MULTILINE)


def lines() -> list[str]:
    """Every command line of the units."""
    return [line for unit in SERVICES for line in settings(unit.read_text(), r"Exec\w+")]


def commands() -> list[list[str]]:
    """Each pykexec command in the units, as words."""
    return [
        shlex.split(text)
        for line in lines()
        for text in re.findall(r"(?:^|'|; +)(pykexec [a-z]+[^';]*)", line)
    ]


def test_there_are_commands() -> None:
    assert {words[1] for words in commands()} == {"load", "unload", "status", "save", "saved"}


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_option_exists(words: list[str]) -> None:
    with click.Context(program) as context:
        verb = program.get_command(context, words[1])
    assert verb is not None
    known = {name for param in verb.params for name in param.opts} | {"--"}
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known


CHANGED, EVENT = "/run/pykexec/changed", "/run/pykexec/event"


@pytest.mark.parametrize(
    ("asks", "file"),
    [("98-pykexec.rules", EVENT), ("zz-pykexec", CHANGED), ("pykexec-check.service", CHANGED)],
)
def test_one_unit_has_the_commands_to_re_arm(asks: str, file: str) -> None:
    """The others create a file, which a path unit waits for."""
    text = "\n".join(line for line in (UNITS / asks).read_text().splitlines() if line[:1] != "#")
    assert set(re.findall(r"touch (\S+?)[\"';\s]", text)) == {file}
    assert "systemctl" not in text
    waits = settings((UNITS / "pykexec-rearm.path").read_text(), "PathExists")
    assert waits == [EVENT, CHANGED]


def test_variables_are_those_of_the_configuration() -> None:
    text = (UNITS / "pykexec-crash.service").read_text()
    preset = re.findall(r"(\w+)=", " ".join(settings(text, "Environment")))
    shown = re.findall(r"^#?(\w+)=", (UNITS / "pykexec.conf").read_text(), re.MULTILINE)
    armed = {name for name in shown if not name.startswith("SAVE_")}
    assert armed == {*preset, "BACKEND"}
    used = re.findall(r"\$\{?([A-Z]+)", " ".join(settings(text, r"Exec\w+")))
    assert set(used) == set(preset)


def test_the_file_of_earlier_versions_is_read_first() -> None:
    """So that the same key in /etc/pykexec.conf counts, and either file is enough."""
    text = (UNITS / "pykexec-crash.service").read_text()
    files = settings(text, "EnvironmentFile")
    assert files == ["-/etc/default/pykexec", "-/etc/pykexec.conf"]
    conditions = settings(text, "ConditionPathExists")
    assert set(conditions) == {"|" + name.removeprefix("-") for name in files}


def test_the_configuration_of_saving_names_every_key_and_its_default() -> None:
    text = (UNITS / "pykexec.conf").read_text()
    shown = re.sub(r"(?m)^#(?=[A-Z_]+=)", "", text)
    values, faults = parse(shown)
    assert faults == []
    assert {name for name in values if name.startswith("SAVE_")} == set(KEYS)
    assert settings_of(values) == (SaveSettings(), [])


def test_what_ends_with_a_reboot_cannot_be_started_in_a_normal_system() -> None:
    for name in ("pykexec-save.service", "pykexec-save-guard.service"):
        text = (UNITS / name).read_text()
        condition = settings(text, "ConditionKernelCommandLine")
        assert condition == ["systemd.unit=pykexec-save.target"]
        assert settings(text, "RefuseManualStart") == ["yes"]


def test_saving_has_all_the_time_that_may_be_configured() -> None:
    """The steps, makedumpfile and then a copy, and the verification."""
    (limit,) = settings((UNITS / "pykexec-save.service").read_text(), "TimeoutStartSec")
    assert int(limit.removesuffix("h")) * 3600 > 3 * DUMP_TIME_MAX + 12 * STEP_TIME_MAX


def test_no_shell_reads_the_configuration() -> None:
    """systemd would paste it into the shell command; a doubled $ is for the shell itself."""
    shells = [text for line in lines() for text in re.findall(r"sh -c '([^']*)'", line)]
    assert len(shells) == sum("sh -c" in line for line in lines())
    assert [text for text in shells if re.search(r"(?<!\$)(\$\$)*\$(?!\$)", text)] == []


def test_kernel_and_initrd_are_of_one_version() -> None:
    (preset,) = settings((UNITS / "pykexec-crash.service").read_text(), "Environment")
    found = dict(word.split("=") for word in preset.split())
    assert found["KERNEL"] == "/boot/vmlinuz-%v"
    assert found["INITRD"].endswith("/initrd.img-%v")


MOUNTS = (
    *("BindPaths", "BindReadOnlyPaths", "DynamicUser", "ExecPaths", "ExtensionDirectories"),
    *("ExtensionImages", "InaccessiblePaths", "MountAPIVFS", "MountFlags", "MountImages"),
    *("NoExecPaths", "PrivateDevices", "PrivateIPC", "PrivateMounts", "PrivateNetwork"),
    *("PrivateTmp", "PrivateUsers", "ProcSubset", "ProtectControlGroups", "ProtectHome"),
    *("ProtectHostname", "ProtectKernelLogs", "ProtectKernelModules", "ProtectKernelTunables"),
    *("ProtectProc", "ProtectSystem", "ReadOnlyPaths", "ReadWritePaths", "RootDirectory"),
    *("RootImage", "TemporaryFileSystem", "CacheDirectory", "ConfigurationDirectory"),
    *("LogsDirectory", "RuntimeDirectory", "StateDirectory"),
)
"""Each creates a mount namespace, in some version of systemd (systemd.exec(5))."""


@pytest.mark.parametrize("unit", SERVICES, ids=lambda path: path.name)
def test_no_unit_has_a_mount_namespace_of_its_own(unit: Path) -> None:
    """The huge pages would be freed with it."""
    assert [name for name in MOUNTS if settings(unit.read_text(), name)] == []


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    """The units with a pykexec that systemd can find, and without units of other packages."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze")
    for unit in UNITS.glob("pykexec-*"):
        (tmp_path / unit.name).write_text(unit.read_text().replace("=pykexec ", "=/bin/true "))
    return sorted(tmp_path.glob("pykexec-*"))


def analyze(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_systemd_takes_the_units(units: list[Path]) -> None:
    done = analyze("verify", "--man=no", *units)
    assert [line for line in done.stderr.splitlines() if "pykexec" in line] == []


SHELL = "pykexec-save-shell.service"


def test_the_shell_is_the_one_that_is_started() -> None:
    text = (UNITS / SHELL).read_text()
    assert ending.SHELL == ("systemctl", "start", SHELL)
    assert settings(text, "ConditionKernelCommandLine") == ["systemd.unit=pykexec-save.target"]


def test_systemd_finds_the_services_confined(units: list[Path]) -> None:
    """All but the shell for repairs. Checks the exposure level times ten: it is 96 without
    confinement, and systemd rates up to 50 as OK. The rest would need a mount namespace."""
    for unit in units:
        if unit.suffix == ".service" and unit.name != SHELL:
            done = analyze("security", "--offline=true", "--threshold=50", "--no-pager", unit)
            if "Unknown" in done.stderr or "unrecognized" in done.stderr:
                pytest.skip("this systemd-analyze looks at running units only")
            assert done.returncode == 0, done.stdout


CAPTURE = ROOT / "capture"
SCRIPTS = [
    UNITS / "zz-pykexec",
    UNITS / "95-pykexec.install",
    *sorted(path for path in CAPTURE.rglob("*") if path.is_file()),
]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_the_hooks_are_shell_scripts(script: Path) -> None:
    shell = script.read_text().partition("\n")[0].removeprefix("#!/bin/")
    subprocess.run([shell, "-n", str(script)], check=True)


@pytest.mark.skipif(Path("/proc/vmcore").exists(), reason="this is a capture kernel")
@pytest.mark.parametrize("name", ["initramfs-top", "show-log"])
def test_hooks_of_the_initrd_do_nothing_in_other_kernels(name: str) -> None:
    """show-log would reset the machine."""
    command = ["sh", str(CAPTURE / name)]
    output = subprocess.run([*command, ""], capture_output=True, text=True, check=True)
    assert (output.stdout, output.stderr) == ("", "")


@pytest.mark.parametrize(
    ("initrd", "command"),
    [
        ("/var/lib/pykexec/initrd.img-6.1", "pykexec setup"),
        ("/var/lib/kdump/initrd.img-6.1", "/etc/kernel/postinst.d/kdump-tools %v"),
    ],
)
def test_a_missing_initrd_is_explained(initrd: str, command: str) -> None:
    """The journal names the command that makes the one that is configured."""
    found = settings((UNITS / "pykexec-crash.service").read_text(), "ExecStartPre")
    script = shlex.split(found[1])[-1].replace("$$", "$").replace("%%", "%").replace("\\\\", "\\")
    done = subprocess.run(
        ["sh", "-c", script], env={"INITRD": initrd}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    first, second, third = done.stderr.splitlines()
    assert f"There is no initrd {initrd}, which" in first
    assert second == f"  {command}"
    assert "INITRD=" in third


FAKES = {
    "sleep": 'echo "$1" >> pauses; [ $(wc -l < pauses) -le 10 ]',
    "rm": '/bin/rm -f "$2" "$3"',
    "cat": "echo $ARMED",
    "systemctl": """
        case "$1 $2" in
        is-active*) echo "$STATE";;
        "--quiet is-enabled") [ "$ENABLED" = yes ];;
        "restart pykexec-check.service")
            echo check >> done
            [ -z "$CHECK" ] || touch changed
            [ "$CHECK" != broken ];;
        *) echo "$1" >> done; [ $(grep -vc check done) -gt "$FAILURES" ];;
        esac""",
}
"""Commands that the unit's program calls; sleep ends it after the tenth pause."""


def rearm(folder: Path, state: str, failures: int = 0, check: str = "changed", **more: str) -> str:
    """Its requests to systemctl, after the pauses: "5 10: check reload". The check finds a change,
    finds none, or fails."""
    for name, text in FAKES.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    (line,) = settings((UNITS / "pykexec-rearm.service").read_text(), "ExecStart")
    script = shlex.split(line)[-1].replace("$$", "$").replace("/run/pykexec", ".")
    told = {"STATE": state, "FAILURES": str(failures), "ENABLED": "yes", "ARMED": "1", **more}
    told |= {"CHECK": check, "PATH": f"{folder}:{os.environ['PATH']}"}
    subprocess.run(["sh", "-c", script], cwd=folder, env=told, check=False)
    done = folder / "done"
    pauses = (folder / "pauses").read_text().split()
    return f"{' '.join(pauses)}: {' '.join(done.read_text().split()) if done.exists() else ''}"


@pytest.mark.parametrize(
    ("state", "failures", "expected"),
    [
        ("active", 0, "5: check reload"),
        ("failed", 0, "5: start"),
        ("inactive", 0, "5: "),
        ("failed", 2, "5 10 20: start start start"),
        ("active", 2, "5 10 20: check reload reload reload"),
        ("activating", 0, "5 10 20 40 80 160 320 600 600 600 600: "),
    ],
)
def test_rearm(tmp_path: Path, state: str, failures: int, expected: str) -> None:
    (tmp_path / "event").touch()
    assert rearm(tmp_path, state, failures) == expected
    left = [name for name in ("event", "changed") if (tmp_path / name).exists()]
    assert left == (["event"] if state == "activating" else [])


def test_an_event_that_changed_nothing_arms_nothing(tmp_path: Path) -> None:
    (tmp_path / "event").touch()
    assert rearm(tmp_path, "active", check="") == "5: check"


def test_a_check_that_fails_re_arms(tmp_path: Path) -> None:
    """Nobody knows then."""
    (tmp_path / "event").touch()
    assert rearm(tmp_path, "active", check="broken") == "5: check reload"


def test_what_is_known_to_have_changed_is_not_checked(tmp_path: Path) -> None:
    """A new kernel is no fault of the image that is armed."""
    (tmp_path / "changed").touch()
    assert rearm(tmp_path, "active", check="") == "5: reload"


def test_what_is_disabled_is_not_tried_again(tmp_path: Path) -> None:
    assert rearm(tmp_path, "failed", ENABLED="no") == "5: "


def test_a_reload_that_leaves_nothing_armed_becomes_a_restart(tmp_path: Path) -> None:
    """So that the unit's state is correct; an armed image is not given up for that (above)."""
    assert rearm(tmp_path, "active", failures=1, ARMED="0") == "5: check reload try-restart"


@pytest.mark.parametrize("program", ["true", "false"])
def test_a_reload_that_fails_asks_to_be_tried_again(tmp_path: Path, program: str) -> None:
    """The unit stays active."""
    (line,) = settings((UNITS / "pykexec-crash.service").read_text(), "ExecReload")
    words = shlex.split(line)
    assert words[3:6] == ["sh", "pykexec", "load"]
    script = words[2].replace("$$", "$").replace("/run/pykexec", str(tmp_path))
    done = subprocess.run(["sh", "-c", script, "sh", program, "load"], check=False)
    assert (tmp_path / "changed").exists() == (done.returncode != 0) == (program == "false")
