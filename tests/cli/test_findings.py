"""doctor, explain, inspect, rehearse: output and exit status."""

from __future__ import annotations

import json
import re
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from pykexec.arch import X86_64
from pykexec.crash import elfcorehdr
from pykexec.crash.elfcorehdr import OldMemory
from pykexec.crash.pattern import pattern_page
from pykexec.flows.doctor import diagnose, problems
from pykexec.host.captured import open_root
from pykexec.host.facts import read_machine
from pykexec.images.contents import contents_bytes
from pykexec.images.identify import identify
from pykexec.machine import NoteArea
from pykexec.placement.plan_load import plan_load
from pykexec.placement.request import LoadRequest
from tests.builders import (
    make_bzimage,
    make_cpio,
    make_machine,
    make_multiboot,
    make_vmlinux,
    multiboot2_header,
    pack,
)
from tests.cli.conftest import Run, RunJson
from tests.conftest import Golden
from tests.dump.test_vmcore_check import A, B, C, make_core
from tests.images.fixtures import FIXTURES
from tests.placement.names import BOOT_PARAMS


@pytest.fixture
def root() -> str:
    """A captured machine with few facts."""
    files = {
        "proc/iomem": "00100000-07ffffff : System RAM\n",
        "proc/meminfo": "MemTotal: 130000 kB\nMemFree: 100000 kB\nMemAvailable: 110000 kB\n",
        "proc/self/status": "CapEff:\t0000000000000000\nSeccomp:\t0\n",
        "proc/sys/kernel/osrelease": "6.1.0\n",
        "proc/sys/kernel/kexec_load_disabled": "1\n",
    }
    for name, text in files.items():
        path = Path("root", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return "root"


def test_doctor(run: Run, run_json: RunJson, root: str) -> None:
    result = run("doctor", "--root", root, status=3)
    assert "fail     CAP_SYS_BOOT " in result.stdout
    assert "\n         fix: " in result.stdout
    assert result.stdout.splitlines()[-1].startswith("root: ")
    document = run_json("doctor", "--root", root, status=3)
    levels = {row["name"]: row["level"] for row in document["rows"]}
    assert levels["CAP_SYS_BOOT"] == "fail"
    assert document["problems"] == list(levels.values()).count("fail")
    assert document["machine"] == "root"


def test_doctor_on_this_machine(run_json: RunJson) -> None:
    assert run_json("doctor", status=3 if failing("/") else 0)["machine"] == "this machine"


def failing(root: str) -> bool:
    """Whether a load would fail on such a machine."""
    machine = read_machine(open_root(Path(root)))
    return bool(list(problems(diagnose(machine))))


def test_explain_an_errno(run: Run, run_json: RunJson, golden: Golden) -> None:
    golden("explain-eaddrnotavail.txt", run("explain", "EADDRNOTAVAIL").stdout)
    assert run_json("explain", "99") == run_json("explain", "eaddrnotavail") | {"word": "99"}
    assert run("explain", "ENOTTY").stdout == "ENOTTY: kexec never returns this\n"


def test_explain_one_of_our_codes(run: Run, run_json: RunJson) -> None:
    result = run("explain", "no-hole")
    assert result.stdout.startswith("no-hole: No free range is suitable")
    assert result.stdout.endswith("exit status 6\n")
    document = run_json("explain", "no-hole")
    assert document["kernel_checks"] == []
    assert document["error"]["exit_status"] == 6


def test_explain_refuses_other_words(run: Run) -> None:
    result = run("explain", "why", status=2)
    assert result.stderr.startswith(
        "pykexec: 'why' is neither an errno nor an error code of pykexec\n"
    )


@pytest.mark.parametrize(
    ("word", "meant"), [("no-hle", "no-hole"), ("EBUZY", "EBUSY"), ("enomen", "ENOMEM")]
)
def test_explain_suggests_the_nearest_word(run: Run, word: str, meant: str) -> None:
    assert f"; did you mean {meant!r}?" in run("explain", word, status=2).stderr


def test_explain_a_plan(run: Run, run_json: RunJson, machine: str) -> None:
    words = ["load", "bzImage", "--machine", machine, "--crash-by-normal", "--crash-size", "32M"]
    Path("plan.json").write_text(run(*words, "--json").stdout)
    assert Path("plan.json").stat().st_size > 1 << 18
    document = run_json("explain", "EINVAL", "--plan", "plan.json")
    assert {item["ok"] for item in document["plan"]} == {True}
    Path("bad.json").write_text("{")
    result = run("explain", "EINVAL", "--plan", "bad.json", status=1)
    assert result.stderr.startswith("pykexec: bad.json: not a plan: ")


def test_inspect(run: Run, run_json: RunJson, golden: Golden) -> None:
    golden("inspect-bzimage.txt", run("inspect", "bzImage").stdout)
    document = run_json("inspect", "bzImage")
    assert document["type"] == "bzImage64"
    assert document["boot"]["pref_address"] == "0x1000000"
    assert document["boot"]["init_size"] == 1 << 20
    Path("text").write_text("no kernel, no initrd")
    nothing = run("inspect", "text", status=1)
    assert nothing.stderr == (
        "pykexec: text: not a kernel image: it is a text file\n  hint: use a kernel file "
        "such as /boot/vmlinuz\n"
    )
    assert (
        "  bzImage64: 0x14 bytes, but a setup header ends at 0x268\n"
        in run("inspect", "text", "-v", status=1).stderr
    )
    error = run_json("inspect", "text", status=1)["error"]
    assert "bzImage64: 0x14 bytes, but a setup header ends at 0x268" in error["details"]


@pytest.mark.parametrize("name", FIXTURES)
def test_inspect_every_type(run: Run, run_json: RunJson, name: str) -> None:
    """Readable names and values, without the repr of Python objects."""
    Path(name).write_bytes(FIXTURES[name])
    output = run("inspect", name).stdout
    assert output.startswith("type ")
    assert re.findall(r"[<>{}\[\]'=]|\bNone\b", output.replace("root=/dev/vda1", "")) == []
    assert output == run("inspect", name).stdout
    document = json.dumps(run_json("inspect", name))
    assert re.findall(r"[<>(]", document.replace("(builder)", "").replace("(NBI)", "")) == []


def test_inspect_a_profile(run: Run, run_json: RunJson) -> None:
    Path("uki").write_bytes(FIXTURES["uki"])
    for words, number, line in (([], 0, "root=/dev/vda1 ro"), (["--profile", "1"], 1, "reset")):
        lines = run("inspect", "uki", *words).stdout.splitlines()
        assert f"profile           {number}" in lines
        assert "profiles          0 main: Normal; 1 reset" in lines
        document = run_json("inspect", "uki", *words)
        assert (document["profile"], document["cmdline_inside"]) == (number, line)
        assert run_json("load", "uki", "--dry-run", *words)["cmdline"] == line
    assert document["profiles"] == [
        {"number": 0, "id": "main", "title": "Normal"},
        {"number": 1, "id": "reset", "title": None},
    ]
    for verb in (["inspect"], ["load", "--dry-run"]):
        error = run_json(*verb, "uki", "--profile", "2", status=2)["error"]
        assert error["hint"] == "profiles: 0 main: Normal; 1 reset"


def test_inspect_an_image_that_may_lie_elsewhere(run: Run, run_json: RunJson) -> None:
    tag = struct.pack("<4I", 0x200000, 0xFFFFFFFF, 0x200000, 2)
    Path("k").write_bytes(make_multiboot(multiboot2_header((10, 0, tag)), addr=0x200000))
    lines = run("inspect", "k").stdout.splitlines()
    where = "low 0x200000, high 0xffffffff, align 0x200000 (2 MiB), from_top yes"
    assert f"relocation   {where}" in lines
    assert "parts        addr 0x200000, memsz 0x3000 (12 KiB)" in lines
    assert run_json("inspect", "k")["boot"]["relocation"] == {
        "low": "0x200000",
        "high": "0xffffffff",
        "align": 0x200000,
        "from_top": True,
    }


def test_inspect_a_dump(run: Run, run_json: RunJson, machine: str) -> None:
    run("load", "bzImage", "--machine", machine, "--crash-by-normal", "--crash-size", "32M")
    run("machine", "crash", machine)
    assert run_json("inspect", "m/vmcore") == run_json("vmcore", "info", "m/vmcore")


def test_memory_that_a_dump_lists_and_does_not_hold(run: Run, run_json: RunJson) -> None:
    Path("core").write_bytes(make_core((replace(A, filesz=0x1000), replace(B, filesz=0), C)))
    assert (
        "no contents  4 pages listed, and not in the file" in run("vmcore", "info", "core").stdout
    )
    document = run_json("vmcore", "info", "core")
    assert document["memory"] == [
        {"start": "0x1000", "end": "0x2000"},
        {"start": "0x200000", "end": "0x204000"},
    ]
    assert document["without_contents"] == [
        {"start": "0x2000", "end": "0x4000"},
        {"start": "0x100000", "end": "0x102000"},
    ]
    assert "not complete: coverage" in run("vmcore", "verify", "core", status=3).stdout


REHEARSE = ["rehearse", "bzImage", "--memory", "128M", "--crash-size", "32M", "--mem-min", "16M"]


def test_rehearse(run: Run, golden: Golden) -> None:
    golden("rehearse.txt", run(*REHEARSE).stdout)


def test_rehearse_asks_what_a_load_asks(run: Run, run_json: RunJson) -> None:
    """With an initrd if one is given; a rehearsal is complete without one too."""
    assert "an initrd" not in run(*REHEARSE).stderr
    error = run_json(*REHEARSE, "--initrd", "bzImage", status=1)["error"]
    assert error["code"] == "unusable-initrd"
    nevertheless = run(*REHEARSE, "--initrd", "bzImage", "--no-initrd-check")
    assert "bzImage: not an initrd" in nevertheless.stderr


def test_rehearse_json(run_json: RunJson) -> None:
    document = run_json(*REHEARSE, "--allocator", "lowest", "--used", "20")
    assert document["good"] is True
    assert document["pattern_pages"]["right"] == document["filled_pages"]
    assert document["machine"]["allocator"] == "lowest"


def test_rehearse_finds_a_page_that_is_lost(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """If one page does not have its own address, the verdict is bad."""
    monkeypatch.setattr(
        "pykexec.flows.rehearse.simulated.pattern_page",
        lambda addr: pattern_page(addr + (0x1000 if addr == 0x2000 else 0)),
    )
    result = run(*REHEARSE, status=3)
    assert result.stdout.splitlines()[-1].startswith("bad: ")
    assert "every-old-page  broken" in result.stdout


def test_rehearse_that_does_not_fit(run: Run) -> None:
    result = run("rehearse", "bzImage", "--memory", "64M", "--crash-size", "60M", status=6)
    assert result.stdout == ""


def test_inspect_an_initrd(run: Run, run_json: RunJson, golden: Golden) -> None:
    cpio = make_cpio(("init", b"#!/bin/sh\n"))
    Path("i").write_bytes(cpio.ljust(512, b"\0") + pack(cpio, "bzip2"))
    golden("inspect-initrd.txt", run("inspect", "i").stdout)
    document = run_json("inspect", "i")
    assert [item["codec"] for item in document["archives"]] == [None, "bzip2"]
    assert document["unpacked"] == 2 * len(cpio)


def test_inspect_what_a_plan_builds(run: Run, run_json: RunJson, golden: Golden) -> None:
    Path("page").write_bytes(zero_page_of(make_bzimage()))
    golden("inspect-zero-page.txt", run("inspect", "page").stdout)
    assert run_json("inspect", "page")["type_of_loader"] == "0xd0"
    Path("headers").write_bytes(
        elfcorehdr.build(
            0x6F000000,
            [NoteArea(0x1100000, 0x168)],
            [OldMemory(0x1000, 0x6F010000, 0x9E000), OldMemory(0x100000, 0x100000, 0x6EF00000)],
            arch=X86_64,
            page_offset_base=0xFFFF888000000000,
        )
    )
    golden("inspect-core-headers.txt", run("inspect", "headers", "-v").stdout)
    assert run_json("inspect", "headers")["moved"] == 0x9E000


def zero_page_of(kernel: bytes) -> bytes:
    Path("kernel").write_bytes(kernel)
    plan = plan_load(identify("kernel"), make_machine(), LoadRequest())
    item = plan.named(BOOT_PARAMS)
    assert item is not None
    assert item.contents is not None
    return contents_bytes(item.contents, 1 << 20)[:4096]


def test_extract(run: Run, run_json: RunJson) -> None:
    Path("packed").write_bytes(pack(make_vmlinux(), "xz"))
    result = run("inspect", "packed", "--extract", "vmlinux", "out")
    assert result.stderr == f"pykexec: note: out: {len(make_vmlinux())} bytes written\n"
    assert Path("out").read_bytes() == make_vmlinux()
    assert run_json("inspect", "out")["type"] == "vmlinux"
    again = run("inspect", "packed", "--extract", "vmlinux", "out", status=1)
    assert again.stderr == "pykexec: out: cannot be written: File exists\n"
