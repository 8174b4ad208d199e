"""What leaves with a captured machine, and what does not; the plan is the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.flows.checked_plan import CheckedPlan, plan
from pykexec.host.captured import Captured, capture
from pykexec.host.facts import read_machine
from pykexec.host.redact import redact_line, redacted
from pykexec.placement.cmdline import key_of, split_words
from pykexec.placement.request import ImageKind, LoadRequest
from tests.builders import make_bzimage, write

from .conftest import MakeTree

SECRETS = {
    "netroot=iscsi:bob:hunter2@10.1.2.3::3260::iqn.2026-01.example:disk": ("hunter2", "10.1.2.3"),
    'rd.iscsi.password="hunter2 and more"': ("hunter2", "more"),
    "systemd.set_credential=passwd.hashed-password.root:$6$hunter2": ("hunter2",),
    "BOOTIF=01-52-54-00-12-34-56": ("52-54",),
    "ip=10.1.2.3::10.1.2.1:255.255.255.0:web1:eth0:none": ("web1", "10.1"),
    "root=iscsi:bob:hunter2@10.1.2.3::3260::iqn:disk": ("bob", "hunter2", "10.1.2.3"),
    "root=nfs4:files.example:/export/web1": ("files.example", "web1"),
    "root=cifs://bob:hunter2@files.example/x": ("bob", "hunter2", "files.example"),
    "root=UUID=6b1f5c3e-0d1c-4a73-9d53-3f0a4b7b11aa": ("6b1f5c3e",),
    "resume=PARTUUID=deadbeef-01": ("deadbeef",),
    "foo.url=https://bob:hunter2@repo.example/x": ("bob", "hunter2"),
    "app_api_token=hunter2": ("hunter2",),
    "luks.key=/hunter2:LABEL=stick": ("hunter2",),
}


@pytest.mark.parametrize("word", SECRETS)
def test_no_secret_stays(word: str) -> None:
    line = f"ro  quiet {word} crashkernel=64K\n"
    shown = redact_line(line)
    assert not [secret for secret in SECRETS[word] if secret in shown]
    assert len(shown) == len(line)
    assert [key_of(each) for each in split_words(shown)] == [
        key_of(each) for each in split_words(line)
    ]
    assert "ro  quiet " in shown
    assert shown.endswith(" crashkernel=64K\n")


@pytest.mark.parametrize(
    "word",
    ["root=/dev/vda1", "mem=2G", "crashkernel=64K", "nokaslr", "disks=ab", "console=ttyS0,115200"],
)
def test_what_a_plan_needs_stays(word: str) -> None:
    assert redact_line(f"ks=a {word}") == f"ks=x {word}"


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60))
def test_no_length_changes(line: str) -> None:
    assert len(redact_line(line).encode()) == len(line.encode())


def test_a_key_of_the_users_own() -> None:
    captured = Captured("m", {"/proc/cmdline": b"my-site=abc ro\n"}, {})
    assert redacted(captured).files["/proc/cmdline"] == b"my-site=abc ro\n"
    assert redacted(captured, ["my_site"]).files["/proc/cmdline"] == b"my-site=xxx ro\n"


def test_the_plan_is_the_same(tree: MakeTree, tmp_path: Path) -> None:
    root = tree(
        {
            "/proc/cmdline": "root=/dev/vda1 ip=10.1.2.3 mem=900M crashkernel=64K\n",
            "/proc/self/mounts": "srv:/x /home nfs4 rw,addr=10.9.8.7 0 0\n"
            "huge /dev/hugepages hugetlbfs rw 0 0\n",
            "/sys/kernel/boot_params/data": bytes(0x140) + b"EDID" * 32 + bytes(4096 - 0x1C0),
        }
    )
    whole = capture(root)
    less = redacted(whole)
    text = b"".join(found for found in less.files.values() if isinstance(found, bytes))
    assert not [secret for secret in (b"10.1.2.3", b"10.9.8.7", b"EDID", b"qemu") if secret in text]
    before, after = read_machine(whole), read_machine(less)
    changed = {"cmdline", "firmware", "hugepage_users"}
    kept = {name: getattr(before, name) for name in changed}
    assert replace(after, **kept) == before
    kernel = write(tmp_path, "vmlinuz", make_bzimage())
    for kind in (ImageKind.NORMAL, ImageKind.CRASH_BY_NORMAL):
        request = LoadRequest(kind=kind)
        assert places(plan(kernel, before, request)) == places(plan(kernel, after, request))


def places(planned: CheckedPlan) -> list[tuple[object, ...]]:
    """Everything that a segment is given, and where."""
    return [
        (item.name, item.mem, item.memsz, item.buf.sha256 if item.buf else None)
        for item in planned.table.segments
    ]
