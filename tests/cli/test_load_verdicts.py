"""What a dry run for the real kernel refuses, and what `doctor` reports on the same machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders import make_cpio, make_multiboot, make_uki
from tests.cli.conftest import Run, RunJson

IOMEM = "00001000-0009fbff : System RAM\n00100000-3fffffff : System RAM\n"
RESERVED = IOMEM + "  38000000-3800ffff : Crash kernel\n"
CONFIG = "CONFIG_KEXEC=y\nCONFIG_KEXEC_FILE=y\n"
FACTS = {
    "proc/iomem": IOMEM,
    "proc/cmdline": "root=/dev/vda1\n",
    "proc/cpuinfo": "flags\t: fpu lm nx hypervisor\n",
    "proc/sys/kernel/osrelease": "6.1.0\n",
    "boot/config-6.1.0": CONFIG,
    "sys/kernel/security/lockdown": "[none] integrity confidentiality\n",
}
NO_CONFIG = "# CONFIG_KEXEC is not set\n# CONFIG_KEXEC_FILE is not set\n"


def root_with(folder: Path, changes: dict[str, str]) -> str:
    for path, text in (FACTS | changes).items():
        place = folder / "root" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return str(folder / "root")


def dry_run(root: str, *words: str) -> list[str]:
    return ["load", *words, "--dry-run", "--backend", "kernel", "--root", root]


def test_a_dry_run_shows_what_kexec_file_load_would_be_given(
    run: Run, run_json: RunJson, folder: Path
) -> None:
    words = dry_run(
        root_with(folder, {}), "bzImage", "--syscall", "file", "--append", "quiet", "--initrd",
        "initrd",
    )  # fmt: skip
    page = run(*words).stdout
    assert "syscall    kexec_file_load: requested by the user\n" in page
    assert "state      dry run, nothing loaded: the kernel will place it\n" in page
    document = run_json(*words)
    assert (document["schema"], document["state"]) == ("pykexec.file-load/1", "requested")
    assert (document["image"], document["flags"]) == ("normal", [])
    assert document["cmdline"] == "quiet"


def test_a_file_load_shows_what_of_a_uki_is_used(run: Run, folder: Path) -> None:
    (folder / "uki").write_bytes(make_uki(initrd=make_cpio(("init", b""))))
    words = dry_run(root_with(folder, {}), "uki", "--syscall", "file")
    shown = run(*words, "--initrd", "initrd").stderr
    assert "the initrd inside the uki is replaced" in shown
    assert "using the command line inside the uki" in shown


@pytest.mark.parametrize(
    ("words", "wait"),
    [
        ([], None),
        (["--settle", "0"], None),
        (
            ["--settle", "12"],
            "wait 12 s before anything is moved, by the 8254 timer (the frequency of the TSC "
            "is unknown: ",
        ),
    ],
)
def test_the_wait_of_the_stub_is_shown(
    run: Run, run_json: RunJson, folder: Path, words: list[str], wait: str | None
) -> None:
    root = root_with(folder, {"proc/iomem": RESERVED})
    load = dry_run(root, "bzImage", "--crash-by-normal", "--no-initrd-check", *words)
    page = run(*load).stdout
    assert (wait in " ".join(page.split())) if wait else ("wait " not in page)
    document = run_json(*load)
    assert document["settle"]["seconds"] == (12 if wait else 0)
    assert document["settle"]["clock"] == "timer"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--settle 3", "--settle is for --crash-by-normal with --backend kernel"),
        ("--settle 3 --crash-by-normal", "--settle is for --crash-by-normal with --backend kernel"),
        (
            "--settle 3 --crash-by-normal --backend kernel --mode kernel-swap",
            "--settle has no effect in mode kernel-swap: the kernel moves the pages",
        ),
        ("--settle 601 --crash-by-normal", "601 is not in the range 0<=x<=600"),
    ],
)
def test_a_wait_that_nobody_would_keep_is_refused(
    run: Run, folder: Path, words: str, message: str
) -> None:
    assert message in run("load", "bzImage", "--dry-run", *words.split(), status=2).stderr


VERDICTS: dict[str, tuple[dict[str, str], str, int, str]] = {
    "no system call": (
        {"boot/config-6.1.0": NO_CONFIG},
        "bzImage",
        5,
        "this kernel has no kexec system call: CONFIG_KEXEC and CONFIG_KEXEC_FILE are not set",
    ),
    "no system call, for a panic": (
        {"boot/config-6.1.0": NO_CONFIG},
        "bzImage --crash-by-normal",
        5,
        "this kernel has no kexec system call: CONFIG_KEXEC and CONFIG_KEXEC_FILE are not set",
    ),
    "no system call, as /sys/kernel shows": (
        {"boot/config-6.1.0": "", "sys/kernel/fscaps": "1\n"},
        "bzImage",
        5,
        "this kernel has no kexec system call: CONFIG_KEXEC and CONFIG_KEXEC_FILE are not set",
    ),
    "an image that no loader of the kernel takes": (
        {},
        "mb --syscall file",
        5,
        "kexec_file_load needs a bzImage, but mb is of type multiboot",
    ),
    "locked down, and such an image": (
        {"sys/kernel/security/lockdown": "none [integrity] confidentiality\n"},
        "mb",
        5,
        "kexec_file_load needs a bzImage, but mb is of type multiboot",
    ),
    "locked down": (
        {"sys/kernel/security/lockdown": "none [integrity] confidentiality\n"},
        "bzImage --syscall load",
        4,
        "kexec_load is disabled by lockdown=integrity",
    ),
    "locked down, for a panic": (
        {"sys/kernel/security/lockdown": "none [integrity] confidentiality\n"},
        "bzImage --crash-by-normal",
        4,
        "kexec_load is disabled by lockdown=integrity, and a crash by normal needs it",
    ),
    "loads are disabled": (
        {"proc/sys/kernel/kexec_load_disabled": "1\n"},
        "bzImage",
        4,
        "kernel.kexec_load_disabled is 1: every load is refused",
    ),
    "no load is left": (
        {"proc/sys/kernel/kexec_load_limit_panic": "0\n"},
        "bzImage --crash",
        4,
        "kernel.kexec_load_limit_panic is 0: no more loads of this kind are allowed",
    ),
    "nothing is reserved": (
        {},
        "bzImage --crash --syscall file",
        6,
        "there is no crash region",
    ),
    "a confidential guest": (
        {"proc/cpuinfo": "flags\t: fpu lm hypervisor sev sev_es\n"},
        "bzImage",
        5,
        "the stub cannot run in this AMD SEV-ES guest",
    ),
}


@pytest.mark.parametrize(("changes", "words", "status", "message"), VERDICTS.values(), ids=VERDICTS)
def test_refusals(
    run: Run, folder: Path, changes: dict[str, str], words: str, status: int, message: str
) -> None:
    (folder / "mb").write_bytes(make_multiboot())
    result = run(*dry_run(root_with(folder, changes), *words.split()), status=status)
    assert result.stdout == ""
    assert result.stderr.splitlines()[0] == f"pykexec: {message}"
    assert "crashkernel=64K" not in result.stderr


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"proc/self/status": "CapEff:\t0000000000000000\nSeccomp:\t0\n"}, 0),
        ({"sys/kernel/security/lockdown": "none [integrity] confidentiality\n"}, 0),
        ({"boot/config-6.1.0": NO_CONFIG}, 5),
        ({"proc/sys/kernel/kexec_load_disabled": "1\n"}, 4),
        ({"proc/cpuinfo": "flags\t: fpu lm nx tdx_guest\n"}, 5),
        ({"proc/cpuinfo": "flags\t: fpu lm nx svm sev sev_es sev_snp\n"}, 0),
    ],
)
def test_doctor_agrees(
    run: Run, run_json: RunJson, folder: Path, changes: dict[str, str], status: int
) -> None:
    """If a load would be refused, one row fails with the same message."""
    root = root_with(folder, changes)
    refused = run(*dry_run(root, "bzImage"), status=status).stderr.removeprefix("pykexec: ")
    failing = "CAP_SYS_BOOT" if "proc/self/status" in changes else None
    document = run_json("doctor", "--root", root, status=3 if status or failing else 0)
    failed = [row for row in document["rows"] if row["level"] == "fail"]
    if status:
        assert refused.splitlines()[0] in {row["evidence"] for row in failed}
    else:
        assert [row["name"] for row in failed] == ([failing] if failing else [])


def blocks(zones: str = "DMA32") -> dict[str, str]:
    """The memory blocks of a machine of 1 GiB, and no balloon driver."""
    memory = "sys/devices/system/memory"
    found = {f"{memory}/block_size_bytes": "8000000\n", "sys/bus/pci/rescan": ""}
    for number in range(8):
        found[f"{memory}/memory{number}/state"] = "online\n"
        found[f"{memory}/memory{number}/valid_zones"] = f"{zones if number else 'none'}\n"
    return found


BY_NORMAL = ("bzImage", "--initrd", "initrd", "--crash-by-normal", "--crash-size", "160M")
CRASH_SIZE = {"sys/kernel/kexec_crash_size": "65536\n", "proc/iomem": RESERVED}


def test_what_is_lent_is_shown(run: Run, run_json: RunJson, folder: Path) -> None:
    words = dry_run(root_with(folder, CRASH_SIZE | blocks()), *BY_NORMAL, "--keep", "kernel")
    document = run_json(*words)
    assert document["mode"] == "lent"
    lent = sum(int(span["end"], 16) - int(span["start"], 16) for span in document["lent"])
    assert lent > 100 << 20
    page = " ".join(run(*words).stdout.split())
    assert f"lent {lent >> 20} MiB of the window stay in use" in page
    assert "wait 10 s before anything is moved" in page


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"sys/bus/virtio/drivers/virtio_balloon/virtio0/uevent": ""}, "virtio_balloon"),
        (blocks("none"), "in several zones"),
        ({"sys/devices/system/memory/block_size_bytes": "x"}, "not a number"),
    ],
)
def test_a_dry_run_falls_back_as_the_load_does(
    run_json: RunJson, folder: Path, more: dict[str, str], why: str
) -> None:
    root = root_with(folder, CRASH_SIZE | blocks() | more)
    document = run_json(*dry_run(root, *BY_NORMAL, "--keep", "kernel"))
    assert document["mode"] == "in-place"
    assert "lent" not in document
    (lack,) = (item["why"] for item in document["lacking"] if item["mode"] == "lent")
    assert why in lack


def test_keep_and_mode_contradict_each_other(run: Run, folder: Path) -> None:
    root = root_with(folder, CRASH_SIZE)
    words = dry_run(root, *BY_NORMAL, "--keep", "kernel", "--mode", "in-place")
    assert "--keep chooses the mode" in run(*words, status=2).stderr
    assert "--keep is for" in run("load", "bzImage", "--keep", "all", status=2).stderr
