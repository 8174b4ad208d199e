"""Whether each slot has what pykexec put there: with a made-up kallsyms and kcore, and a struct
kimage in each slot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pykexec.backends.backend import Slot
from pykexec.backends.kernel.image_check import check_image
from pykexec.backends.kernel.kimage import LoadedSegment
from pykexec.backends.kernel.staged import StageChanged
from pykexec.cli.terms import PYKEXEC
from pykexec.host.arm64.code_symbols import FUNCTIONS
from pykexec.host.root import Folder
from tests.backends.kernel.test_kimage import SEGMENTS, make_struct
from tests.backends.kernel.test_record import RECORD
from tests.host.arm64.test_code_symbols import IMAGE, LISTED, function_at, part_of, raw
from tests.host.conftest import DIRECT_MAP, KALLSYMS
from tests.host.test_kcore import make_kcore

POINTERS = 0xFFFFFFFF8300AA00
"""kexec_image, and 8 bytes on kexec_crash_image."""
NORMAL, CRASH = (DIRECT_MAP + 0x3F00400, DIRECT_MAP + 0x3F00800)
STUB = LoadedSegment(9000, 0x3E00D000, 0x3000)
OURS = {
    Slot.NORMAL: replace(RECORD, slot=Slot.NORMAL, entry=0x106000, segments=SEGMENTS),
    Slot.CRASH: replace(RECORD, slot=Slot.CRASH, entry=STUB.mem, segments=(STUB,)),
}
SLOTS = list(OURS)


def kernel(
    folder: Path,
    *,
    normal: bytes = make_struct(1, SEGMENTS),
    crash: bytes = make_struct(1, (STUB,), entry=STUB.mem),
    pointers: tuple[int, int] = (NORMAL, CRASH),
    kallsyms: str = KALLSYMS,
) -> Folder:
    """A kernel with these images in its slots."""
    proc = folder / "proc"
    proc.mkdir()
    words = b"".join(pointer.to_bytes(8, "little") for pointer in pointers)
    kimages = normal.ljust(CRASH - NORMAL, b"\0") + crash
    (proc / "kallsyms").write_text(kallsyms)
    (proc / "kcore").write_bytes(
        make_kcore((POINTERS, 0x3000000, words), (NORMAL, NORMAL - DIRECT_MAP, kimages))
    )
    return Folder(folder)


@pytest.mark.parametrize("slot", SLOTS)
def test_ours(tmp_path: Path, slot: Slot) -> None:
    check_image(OURS[slot], kernel(tmp_path))


@pytest.mark.parametrize("slot", SLOTS)
def test_another_programs(tmp_path: Path, slot: Slot) -> None:
    """With the same entry, and one byte longer."""
    ours = OURS[slot]
    longer = (*ours.segments[:-1], replace(ours.segments[-1], bufsz=ours.segments[-1].bufsz + 1))
    other = make_struct(1, longer, entry=ours.entry)
    normal = slot is Slot.NORMAL
    root = kernel(tmp_path, normal=other) if normal else kernel(tmp_path, crash=other)
    with pytest.raises(StageChanged) as caught:
        check_image(ours, root)
    assert caught.value.message == (
        f"the {slot} image is not the one that pykexec loaded: another program has replaced it"
    )
    assert caught.value.hint_in(PYKEXEC) == (
        f"run pykexec unload{' --crash' if slot is Slot.CRASH else ''} --backend kernel, "
        "and load again"
    )


@pytest.mark.parametrize("slot", SLOTS)
def test_none_is_loaded(tmp_path: Path, slot: Slot) -> None:
    """The kernel reports this itself, and so does status."""
    check_image(OURS[slot], kernel(tmp_path, pointers=(0, 0)))


HIDDEN = [
    ("kptr_restrict", "0000000000000000 B kexec_image\n0000000000000000 B kexec_crash_image\n"),
    ("no such symbol", "ffffffff81000000 T _text\n"),
    ("not in kcore", "ffffffff00000000 B kexec_image\nffffffff00000000 B kexec_crash_image\n"),
]


@pytest.mark.parametrize("slot", SLOTS)
@pytest.mark.parametrize("kallsyms", [row[1] for row in HIDDEN], ids=[row[0] for row in HIDDEN])
def test_where_nobody_may_look_it_is_taken_for_ours(
    tmp_path: Path, slot: Slot, kallsyms: str
) -> None:
    other = make_struct(1, (), entry=1)
    check_image(OURS[slot], kernel(tmp_path, normal=other, crash=other, kallsyms=kallsyms))


def arm64_kernel(folder: Path, crash: bytes) -> Folder:
    """Debian's 6.1, which lists its functions only, with this crash image."""
    kallsyms = LISTED.decode()
    (folder / "proc/sys/kernel").mkdir(parents=True)
    (folder / "proc/sys/kernel/arch").write_text("aarch64\n")
    (folder / "proc/kallsyms").write_text(kallsyms)
    assert IMAGE
    code = [(function_at(name), raw(part_of(name))) for name in FUNCTIONS]
    parts = [*code, (IMAGE, CRASH.to_bytes(8, "little")), (CRASH, crash)]
    loads = [(addr, number << 20, data) for number, (addr, data) in enumerate(parts)]
    (folder / "proc/kcore").write_bytes(make_kcore(*loads))
    return Folder(folder)


def test_a_kernel_whose_code_shows_where_the_image_is(tmp_path: Path) -> None:
    ours = OURS[Slot.CRASH]
    check_image(ours, arm64_kernel(tmp_path / "ours", make_struct(1, (STUB,), entry=STUB.mem)))
    longer = (replace(STUB, bufsz=STUB.bufsz + 1),)
    other = make_struct(1, longer, entry=STUB.mem)
    with pytest.raises(StageChanged):
        check_image(ours, arm64_kernel(tmp_path / "other", other))
