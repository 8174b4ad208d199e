"""Mode lent as a plan: which slots of the window have huge pages, and what is lent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykexec.abi.hugetlb import HUGE_PAGE_SIZE
from pykexec.images.contents import Built
from pykexec.images.identify import identify
from pykexec.images.kernel_image import KernelImage
from pykexec.memory.ranges import PhysRange, RangeSet
from pykexec.placement.granted import DRY_RUN, Granted
from pykexec.placement.lending import NoMovableMemory
from pykexec.placement.lent import OtherSlots, loaded_slots
from pykexec.placement.plan import PanicPlan, Placed
from pykexec.placement.plan_load import plan_load
from pykexec.placement.request import ImageKind, LoadRequest, Mode
from pykexec.placement.stage import frames_in, slots_of
from tests.blocks import machine_of
from tests.builders import GIB, MIB, make_bzimage, make_vmlinux, write

MACHINE = replace(
    machine_of(2 * GIB), crash_kernel=RangeSet((PhysRange.sized(0x7F000000, 128 << 10),))
)
LOW_END = 0xA0000


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> KernelImage:
    image = make_bzimage(bytes(5 * MIB), init_size=0x3378000)
    return identify(write(tmp_path_factory.mktemp("lent"), "vmlinuz", image))


def request(initrd: int = 3 * MIB, **more: object) -> LoadRequest:
    wishes = {"mode": Mode.LENT, "crash_size": 176 * MIB, **more}
    found = Built(b"i" * initrd) if initrd else None
    return LoadRequest(kind=ImageKind.CRASH_BY_NORMAL, initrd=found, **wishes)  # type: ignore[arg-type]


def plan(kernel: KernelImage, wanted: LoadRequest, granted: Granted = DRY_RUN) -> PanicPlan:
    found = plan_load(kernel, MACHINE, wanted, granted)
    assert isinstance(found, PanicPlan)
    return found


def loaded(found: PanicPlan) -> list[Placed]:
    return [item for item in found if item.contents]


def test_what_is_not_loaded_is_lent(kernel: KernelImage) -> None:
    found = plan(kernel, request())
    frames = found.stage
    assert frames.movable
    assert frames.slots
    assert frames.lent.size == found.window.size - len(frames.slots) * HUGE_PAGE_SIZE
    for item in loaded(found):
        assert item.contents
        assert not frames.lent.overlaps(PhysRange.sized(item.range.start, item.contents.size))
    assert len(frames.image) == len(frames.slots)
    assert found.settle.seconds == 10


@given(initrd=st.integers(0, 40 * MIB), payload=st.integers(1, 12 * MIB))
def test_law_no_more_is_held_than_loaded_and_6_mib(
    tmp_path_factory: pytest.TempPathFactory, initrd: int, payload: int
) -> None:
    image = make_bzimage(b"", init_size=0x3378000)
    parsed = identify(write(tmp_path_factory.mktemp("law"), "vmlinuz", image + b"k" * 4096))
    parsed = replace(parsed, payload=Built(bytes(payload)))
    found = plan(parsed, request(initrd))
    size = sum(item.contents.size for item in loaded(found) if item.contents)
    assert size < found.stage.ours.size <= size + 6 * MIB


def test_low_memory_and_headers_share_a_page(kernel: KernelImage) -> None:
    frames = plan(kernel, request()).stage
    assert frames.low
    assert frames.low.size == LOW_END
    assert frames.headers == PhysRange(frames.low.end, frames.low.start + HUGE_PAGE_SIZE)


def test_the_slots_are_the_same_wherever_the_headers_lie(kernel: KernelImage) -> None:
    wanted = request()
    window = plan(kernel, wanted).window
    slots = loaded_slots(kernel, MACHINE, wanted, window)
    for at in (0x200000, 0x7E000000):
        pages = [at, *(0x10000000 + n * HUGE_PAGE_SIZE for n in range(len(slots)))]
        frames = frames_in(window, sorted(pages), low_end=LOW_END, slots=slots, movable=True)
        found = plan(kernel, wanted, Granted(Mode.LENT, stage=frames))
        assert found.stage.slots == slots


def test_other_slots_than_were_taken_are_refused(kernel: KernelImage) -> None:
    wanted = request()
    window = plan(kernel, wanted).window
    slots = loaded_slots(kernel, MACHINE, wanted, window)[1:]
    pages = [0x10000000 + n * HUGE_PAGE_SIZE for n in range(len(slots) + 1)]
    frames = frames_in(window, pages, low_end=LOW_END, slots=slots, movable=True)
    with pytest.raises(OtherSlots):
        plan(kernel, wanted, Granted(Mode.LENT, stage=frames))


def test_the_zeros_behind_an_elf_image_are_held(tmp_path: Path) -> None:
    image = identify(write(tmp_path, "vmlinux", make_vmlinux()))
    found = plan(image, request())
    kernel = found.named("kernel")
    assert kernel
    assert slots_of(found.window, [kernel.range]) <= set(found.stage.slots or ())


def test_without_movable_memory(kernel: KernelImage) -> None:
    machine = replace(MACHINE, balloons=("virtio_balloon",))
    with pytest.raises(NoMovableMemory, match="virtio_balloon"):
        plan_load(kernel, machine, request(), DRY_RUN)


def test_what_the_plan_warns_of(kernel: KernelImage) -> None:
    machine = replace(MACHINE, swap_in_memory=("zram0", "zswap"))
    warnings = " ".join(plan_load(kernel, machine, request(), DRY_RUN).warnings)
    assert "zram0, zswap may keep compressed pages" in warnings
    assert "sleep" not in warnings
