"""Mode lent on the simulated kernel, whatever the machine: the kernel has nothing of its own in
movable memory, and a dump has every page but the lent ones, each once."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from pykexec.abi.x86.page import PAGE_SIZE
from pykexec.backends.backend import Slot
from pykexec.backends.simulated import SimulatedBackend
from pykexec.backends.simulated.kernel.allocators import Policy
from pykexec.backends.simulated.lent import TooFewHugePages
from pykexec.dump.vmcore_check import verify
from pykexec.errors import DoesNotFit
from pykexec.flows.load import LoadedPlan, load
from pykexec.flows.rehearse.simulated import RehearsalMachine, expected_of_machine, fill, rehearse
from pykexec.images.contents import Built
from pykexec.memory.ranges import RangeSet
from pykexec.placement.lending import NoMovableMemory
from pykexec.placement.plan import PanicPlan
from pykexec.placement.request import ImageKind, LoadRequest, Mode
from tests.builders import MIB, make_bzimage, write

FEW = settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),
)
SEEDS = st.integers(0, 1 << 20)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    image = make_bzimage(bytes(range(256)) * 4096, init_size=8 * MIB)
    return write(tmp_path_factory.mktemp("law"), "vmlinuz", image)


@contextmanager
def machine(seed: int, policy: Policy, used: int) -> Iterator[SimulatedBackend]:
    with tempfile.TemporaryDirectory() as folder:
        backend = SimulatedBackend.create(
            Path(folder) / "machine", 768 * MIB, seed=seed, used=used, allocator=policy
        )
        backend.make_region()
        yield backend


def lend(kernel: Path, backend: SimulatedBackend, size: int) -> LoadedPlan:
    """Not every machine can lend memory: such a machine is skipped."""
    wanted = LoadRequest(
        kind=ImageKind.CRASH_BY_NORMAL,
        initrd=Built(b"i" * MIB),
        crash_size=size,
        mode=Mode.LENT,
        initrd_check=False,
    )
    try:
        return load(kernel, backend, wanted)
    except (NoMovableMemory, TooFewHugePages):
        assume(False)
        raise


def kernels_own(backend: SimulatedBackend, stage: RangeSet) -> RangeSet:
    """All that cannot be moved, without the huge pages of a stage, which can."""
    shown = backend.show()
    return (shown.in_use - shown.user) | shown.kernel | (shown.images - stage)


@FEW
@given(
    seed=SEEDS, policy=st.sampled_from(Policy), used=st.integers(1, 30), size=st.integers(16, 70)
)
def test_a_dump_has_every_page_once_but_the_lent_ones(
    kernel: Path, seed: int, policy: Policy, used: int, size: int
) -> None:
    with machine(seed, policy, used) as backend:
        before = backend.show()
        plan = lend(kernel, backend, size * 2 * MIB).planned.plan
        assert isinstance(plan, PanicPlan)
        shown, expected = backend.show(), expected_of_machine(backend)
        assert shown.lent == plan.stage.lent
        assert not expected.pages & shown.lent
        assert not (shown.in_use - shown.user) & shown.lent
        assert shown.in_use.without(plan.window).size == before.in_use.size
        fill(backend, shown.in_use)
        backend.crash()
        verdict = verify(backend.folder.vmcore, expected)
        assert verdict.whole, [check for check in verdict.checks if check.ok is False]
        assert verdict.patterns
        assert verdict.patterns.right == (shown.in_use - shown.lent).size // PAGE_SIZE
        assert verdict.patterns.whole


@FEW
@given(seed=SEEDS, policy=st.sampled_from(Policy), sizes=st.lists(st.integers(1, 6), max_size=2))
def test_the_kernel_takes_no_frame_in_movable_memory(
    kernel: Path, seed: int, policy: Policy, sizes: list[int]
) -> None:
    """Whatever is loaded besides."""
    with machine(seed, policy, 20) as backend:
        plan = lend(kernel, backend, 64 * MIB).planned.plan
        assert isinstance(plan, PanicPlan)
        assert backend.show().movable.covers(plan.window)
        for size in sizes:
            initrd = Built(b"x" * (size * MIB))
            load(kernel, backend, LoadRequest(initrd=initrd, initrd_check=False))
            own = kernels_own(backend, plan.stage.ours)
            assert not own & backend.show().movable


@FEW
@given(seed=SEEDS, policy=st.sampled_from(Policy))
def test_an_unload_gives_all_of_it_back(kernel: Path, seed: int, policy: Policy) -> None:
    with machine(seed, policy, 20) as backend:
        before = backend.show()
        window = lend(kernel, backend, 64 * MIB).planned.plan.window
        assert window
        backend.unload(Slot.CRASH)
        after = backend.show()
        assert not after.movable
        assert not after.images
        assert not after.lent
        assert after.in_use.without(window).size == before.in_use.size
        assert after.in_use - after.user == before.in_use - before.user


def test_a_refused_load_leaves_the_machine_as_it_was(kernel: Path) -> None:
    with machine(1, Policy.RANDOM, 20) as backend:
        before = backend.show()
        wanted = LoadRequest(kind=ImageKind.CRASH_BY_NORMAL, crash_size=1024 * MIB, mode=Mode.LENT)
        with pytest.raises(DoesNotFit):
            load(kernel, backend, wanted)
        assert backend.show() == before


def test_it_survives_on_disk(kernel: Path) -> None:
    with machine(3, Policy.LOWEST, 20) as backend:
        lend(kernel, backend, 64 * MIB)
        again = SimulatedBackend.open(backend.folder.path)
        assert again.show() == backend.show()
        assert again.show().lent


def test_a_rehearsal(kernel: Path) -> None:
    request = LoadRequest(
        mode=Mode.LENT, crash_size=64 * MIB, initrd=Built(b"i" * MIB), initrd_check=False
    )
    found = rehearse(kernel, request, stage=RehearsalMachine(768 * MIB, used=10))
    assert found.good
    assert found.load.mode is Mode.LENT
    assert "lent" in {check.rule for check in found.checks}


def test_huge_pages_are_made_where_few_are_free(tmp_path: Path) -> None:
    """The kernel of a distribution needs more than the rest of the window's last block has."""
    image = make_bzimage(bytes(range(256)) * (24 * MIB >> 8), init_size=48 * MIB)
    kernel = write(tmp_path, "vmlinuz", image)
    request = LoadRequest(mode=Mode.LENT, crash_size=112 * MIB, initrd_check=False)
    found = rehearse(kernel, request, stage=RehearsalMachine(1024 * MIB, used=40))
    assert found.good
