"""load: table, documents, refusals."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from pykexec.cli.program import program
from pykexec.cli.report.target import UNTOUCHED
from tests.builders import make_bzimage, make_cpio, make_multiboot, make_uki, pack
from tests.cli.conftest import Run, RunJson
from tests.conftest import Golden

PLAN = ["load", "bzImage", "--initrd", "initrd", "--append", "quiet root=/dev/vda", "--dry-run"]
BY_NORMAL = ["--crash-by-normal", "--mem-min", "16M", "--mem-max", "0x3ffffff"]
HEAD = "No.  buf         bufsz     mem       memsz     what"


def test_the_table(run: Run, machine: str, golden: Golden) -> None:
    result = run(*PLAN, *BY_NORMAL, "--machine", machine)
    assert result.stdout.startswith(
        "No.  buf         bufsz     mem        memsz      what\n0    NULL"
    )
    golden("load-by-normal.txt", result.stdout)
    golden("load-by-normal.stderr.txt", result.stderr)


def test_the_reasons(run: Run, machine: str, golden: Golden) -> None:
    golden("load-by-normal-v.txt", run(*PLAN, *BY_NORMAL, "--machine", machine, "-v").stdout)


def test_a_normal_load(run: Run, machine: str, golden: Golden) -> None:
    golden("load-normal.txt", run(*PLAN, "--machine", machine).stdout)


def test_what_a_load_says_afterwards(run: Run, machine: str, golden: Golden) -> None:
    words = [word for word in PLAN if word != "--dry-run"]
    result = run(*words, *BY_NORMAL, "--machine", machine)
    golden("load-done.txt", result.stdout)


def test_the_document_of_a_dry_run(
    run: Run, run_json: RunJson, machine: str, golden: Golden
) -> None:
    words = [*PLAN, *BY_NORMAL, "--machine", machine]
    document = run_json(*words)
    golden("load-by-normal.json", run(*words, "--json").stdout)
    assert document["state"] == "requested"
    assert document["window"] == {"start": "0x1000000", "end": "0x4000000"}
    assert "backup_map" not in document


def test_two_dry_runs_are_alike(run: Run, machine: str) -> None:
    words = [*PLAN, *BY_NORMAL, "--machine", machine, "--json"]
    assert run(*words).stdout == run(*words).stdout


def test_the_document_of_a_load(run_json: RunJson, machine: str) -> None:
    words = [word for word in PLAN if word != "--dry-run"]
    document = run_json(*words, *BY_NORMAL, "--machine", machine)
    assert document["state"] == "bound"
    assert document["backend"] == "simulated"
    assert document["mode"] == "flag"
    assert document["flags"] == ["KEXEC_CRASH_BY_NORMAL"]
    pages = sum(item["memsz"] for item in document["segments"])
    assert sum(run["size"] for run in document["backup_map"]) == pages
    assert document["elfcorehdr"]["program_headers"] > 4


def test_width_changes_nothing(run: Run, machine: str) -> None:
    words = [*PLAN, *BY_NORMAL, "--machine", machine, "-v"]
    narrow, wide = (run(*words, env={"COLUMNS": width}).stdout for width in ("20", "300"))
    assert narrow == wide


def test_without_a_machine_one_is_made_and_named(run: Run, folder: Path) -> None:
    first = run("load", "bzImage")
    where = folder / "state" / "pykexec" / "machine"
    notice = f"pykexec: note: {UNTOUCHED}\n"
    made = f"pykexec: note: created the simulated machine {where}\n"
    assert first.stderr == made + notice + notice
    assert first.stdout.startswith(f"{UNTOUCHED}\n")
    assert f"simulated, machine {where}\n" in first.stdout
    assert run("load", "bzImage").stderr == notice + notice
    assert run("load", "bzImage", "--json").stderr == notice
    assert run("load", "bzImage", "--dry-run").stdout.startswith("No.")
    shown = run("status", "--backend", "simulated").stdout
    assert shown.startswith(f"{UNTOUCHED}\n")
    assert f"simulated, machine {where}\n" in shown


def test_no_machine_is_made_for_a_file_that_is_no_kernel(run: Run, folder: Path) -> None:
    (folder / "text").write_text("no kernel")
    for name in ("nothere", "text", "."):
        for words in ((), BY_NORMAL):
            result = run("load", name, *words, status=1)
            assert result.stderr.startswith(f"pykexec: {name}: ")
    assert not (folder / "state").exists()


def test_a_machine_that_was_named_needs_no_notice(run: Run, machine: str) -> None:
    result = run("load", "bzImage", "--machine", machine)
    assert result.stderr == ""
    assert "not armed" not in result.stdout


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("status", "--json"),
        ("status", "--backend", "simulated"),
        ("unload",),
        ("exec",),
        ("region", "show"),
        ("region", "release"),
    ],
    ids=" ".join,
)
def test_only_a_load_makes_a_machine(folder: Path, words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(program, words)
    assert result.exit_code, "there is nothing loaded, or no machine"
    assert not (folder / "state").exists()
    if words[0] != "status":
        assert "there is no simulated machine" in result.output


def captured(folder: Path, iomem: str | None, meminfo: str = "MemTotal: 2000000 kB\n") -> str:
    """A folder that looks like the root of a machine."""
    proc = folder / "root" / "proc"
    proc.mkdir(parents=True)
    (proc / "meminfo").write_text(meminfo)
    if iomem is not None:
        (proc / "iomem").write_text(iomem)
    return "root"


def test_a_captured_machine(run: Run, folder: Path) -> None:
    root = captured(folder, "00100000-7fffffff : System RAM\n")
    result = run("load", "bzImage", "--dry-run", "--root", root)
    assert "backend    simulated, root, map of /proc/iomem\n" in result.stdout
    assert "0    data        0x3000    0x7fe00000  0x100000  kernel\n" in result.stdout
    assert result.stderr == ""


def test_zeros_in_iomem_are_no_obstacle(run: Run, folder: Path) -> None:
    root = captured(folder, "00000000-00000000 : System RAM\n")
    result = run("load", "bzImage", "--dry-run", "--root", root)
    assert "the memory map is assumed from MemTotal" in result.stderr
    assert "addresses are a guess\n" in result.stderr
    assert "backend    simulated, root, assumed map\n" in result.stdout


def test_no_map_and_no_total_is_a_refusal(run: Run, folder: Path) -> None:
    root = captured(folder, None, "")
    result = run("load", "bzImage", "--dry-run", "--root", root, status=5)
    assert result.stderr.startswith("pykexec: the memory map of root is unknown: /proc/iomem:")


def test_this_machine_unprivileged(run: Run) -> None:
    """A dry run makes a plan, whatever is readable on this machine."""
    result = run("load", "bzImage", "--dry-run")
    assert "simulated, this machine, " in result.stdout
    assert "dry run, nothing loaded\n" in result.stdout


REFUSED = [
    ("--crash --crash-by-normal", 2, "--crash and --crash-by-normal exclude each other"),
    ("--mode flag", 2, "--mode is for --crash-by-normal"),
    ("--crash --crash-size 64M", 2, "--crash-size is for --crash-by-normal"),
    ("--hotplug", 2, "--hotplug is for --crash"),
    ("--replace", 2, "--replace is for --crash-by-normal"),
    ("--crash-by-normal --replace", 5, "--replace is for the real kernel"),
    ("--cmdline-remove quiet", 2, "--cmdline-remove requires "
     "--reuse-cmdline"),
    ("--root /", 2, "--root is for --dry-run"),
    ("--dry-run --root / --machine m", 2, "--root and --machine exclude each other"),
    ("--backend kernel --machine m", 2, "--machine would be ignored: it is for the simulated "
     "backend"),
    ("--dry-run --type zImage", 2, "unknown image type 'zImage'"),
    ("--dry-run --crash-by-normal --mode stub-swap", 5, "mode stub-swap is for the real kernel"),
    ("--dry-run --crash-by-normal --mode flag --backend kernel", 5,
     "mode flag: no stock kernel supports KEXEC_CRASH_BY_NORMAL"),
    ("--syscall file", 5, "the simulated kernel has no kexec_file_load"),
    ("--machine m --dry-run --mem-min 2M --mem-max 1M", 2,
     "the highest address 0x100000 is below the lowest, 0x200000"),
    ("--machine m --dry-run --entry 0x42", 6, "entry 0x42 is not in any segment"),
    ("--machine m --dry-run --append elfcorehdr=1 --crash-by-normal --crash-size 32M", 2,
     "elfcorehdr= is set by pykexec"),
    ("--machine m --dry-run --mem-max 8M", 6,
     "kernel: no free range of 0x100000 bytes (1 MiB) aligned to 0x200000 at or above 0x1000000"),
    ("--machine m --crash", 6, None),
]  # fmt: skip


@pytest.mark.parametrize(("words", "status", "message"), REFUSED)
def test_refusals(run: Run, machine: str, words: str, status: int, message: str | None) -> None:
    result = run("load", "bzImage", *words.split(), status=status)
    assert result.stdout == ""
    first = result.stderr.splitlines()[0]
    if message:
        assert first == f"pykexec: {message}"


def test_the_backend_of_the_environment(run: Run) -> None:
    env = {"PYKEXEC_BACKEND": "kernel"}
    result = run("status", "--machine", "m", status=2, env=env)
    assert "--machine would be ignored: it is for the simulated backend\n" in result.stderr
    assert (
        "'kernl' is not one of" in run("status", status=2, env={"PYKEXEC_BACKEND": "kernl"}).stderr
    )


def test_a_banner_cannot_command_a_terminal(run: Run, machine: str, folder: Path) -> None:
    (folder / "evil").write_bytes(make_bzimage(banner=b"6.1 \x1b[2J[red] (x)\0"))
    result = run("load", "evil", "--machine", machine, "--append", "init=[/bin/sh]", "--dry-run")
    assert "\x1b" not in result.stdout
    assert "cmdline    init=[/bin/sh]\n" in result.stdout


def test_the_kernel_is_named_by_what_it_is(run_json: RunJson, machine: str, folder: Path) -> None:
    (folder / "other").mkdir()
    (folder / "other" / "name").write_bytes((folder / "bzImage").read_bytes())
    one = run_json("load", "bzImage", "--machine", machine, "--dry-run")
    two = run_json("load", "other/name", "--machine", machine, "--dry-run")
    assert json.dumps(one) == json.dumps(two)


def test_a_multiboot_image_with_modules(run: Run, run_json: RunJson, machine: str) -> None:
    Path("xen").write_bytes(make_multiboot())
    Path("dom0").write_bytes(b"kernel" * 900)
    words = ["load", "xen", "--module", "dom0 root=/dev/vda", "--machine", machine]
    document = run_json(*words, "--dry-run")
    assert document["kernel"]["type"] == "multiboot"
    module = next(item for item in document["segments"] if item["name"] == "module 0")
    assert module["bufsz"] == 5400
    assert "KEXEC" not in run(*words).stderr
    for extra, message in (
        (["--initrd", "initrd"], "an initrd has no effect: xen is of type multiboot"),
        (["--module", "missing"], "missing: cannot be opened: No such file or directory"),
    ):
        refused = run(*words, *extra, status=1 if "missing" in extra else 2)
        assert refused.stderr.startswith(f"pykexec: {message}\n")


BY_NORMAL_32 = ["--crash-by-normal", "--crash-size", "32M"]
CRASHES = [BY_NORMAL_32, [*BY_NORMAL_32, "--dry-run"]]


@pytest.mark.parametrize("words", CRASHES)
def test_an_initrd_of_another_kernel(
    run: Run, run_json: RunJson, machine: str, words: list[str]
) -> None:
    """A dry run and a load give the same answer."""
    Path("other").write_bytes(pack(make_cpio(("init", b""), ("lib/modules/5.9/a", b"")), "xz"))
    load = ["load", "bzImage", "--initrd", "other", "--machine", machine]
    told = (
        "other: the initrd belongs to another kernel: its modules are for 5.9, but the "
        "kernel is 6.1.0-test"
    )
    error = run_json(*load, *words, status=1)["error"]
    assert (error["code"], error["message"]) == ("initrd-of-another-kernel", told)
    assert f"warning: {told}\n" in run(*load, *words, "--no-initrd-check").stderr
    assert f"warning: {told}\n" in run(*load, "--dry-run").stderr
    refused = run(*load, "--dry-run", "--no-initrd-check", status=2)
    assert "--no-initrd-check is for --crash and --crash-by-normal" in refused.stderr


def test_a_wrong_initrd_is_refused_before_anything_is_taken(
    run: Run, run_json: RunJson, machine: str
) -> None:
    before = run_json("machine", "show", machine)
    error = run_json(
        "load",
        "bzImage",
        "--initrd",
        "bzImage",
        "--crash-by-normal",
        "--machine",
        machine,
        status=1,
    )["error"]
    assert error["code"] == "unusable-initrd"
    assert run_json("machine", "show", machine) == before


def test_what_cannot_be_unpacked_is_a_note_for_v(
    run: Run, machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("packed").write_bytes(pack(make_cpio(("init", b"")), "zstd"))
    for name in ("zstandard", "compression.zstd", "backports.zstd"):
        monkeypatch.setitem(sys.modules, name, None)
    load = ["load", "bzImage", "--initrd", "packed", "--dry-run", "--machine", machine]
    assert run(*load).stderr == ""
    assert "note: packed: it is compressed with zstd" in run(*load, "-v").stderr


def test_a_uki_says_who_was_heard(run: Run, machine: str) -> None:
    Path("uki").write_bytes(make_uki(initrd=make_cpio(("init", b""))))
    words = ["load", "uki", "--dry-run", "--machine", machine]
    plain = run(*words)
    assert "initrd" in plain.stdout
    assert plain.stderr == (
        "pykexec: warning: using the initrd inside the uki\npykexec: warning: using the "
        "command line inside the uki\n"
    )
    own = run(*words, "--append", "single", "--initrd", "initrd")
    assert own.stderr == (
        "pykexec: warning: the initrd inside the uki is replaced\n"
        "pykexec: warning: the command line inside the uki is replaced: 'root=/dev/vda1 ro'\n"
    )


def test_more_pieces_than_headers_are_refused_and_nothing_stays_loaded(
    run_json: RunJson, machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This is known only when the load is bound, which unloads it again. The real limit, 65,535, is
    too many for a test."""
    before = run_json("machine", "show", machine)
    monkeypatch.setattr("pykexec.crash.elfcorehdr.MAX_PROGRAM_HEADERS", 100)
    words = ("load", "bzImage", "--machine", machine, "--crash-by-normal", "--crash-size", "32M")
    error = run_json(*words, status=6)["error"]
    assert error["code"] == "too-many-headers"
    assert (
        "program headers are needed, but ELF core headers can have at most 100" in error["message"]
    )
    assert run_json("machine", "show", machine) == before
