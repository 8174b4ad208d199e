"""A region of the real kernel: the module's parameters, each refusal before the call, and each
errno after it. The calls are recorded and do not reach a kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from errno import EAGAIN, EBUSY, EEXIST, EFAULT, EKEYREJECTED, ENOEXEC, ENOMEM, EPERM, ERANGE
from functools import partial
from pathlib import Path

import pytest

from pykexec.backends.kernel import region
from pykexec.backends.kernel.backend import KernelBackend
from pykexec.backends.kernel.region import make, release, show, with_expected_region
from pykexec.backends.kernel.region_rules import RODATA_FULL, TESTED, refusal, series
from pykexec.backends.region import Origin
from pykexec.cli.terms import PYKEXEC
from pykexec.errors import KexecError
from pykexec.host.root import Folder
from pykexec.machine import KexecState, Machine, Modules, RegionModule, Sysctls
from pykexec.memory.map import MemoryMap
from pykexec.memory.ranges import PhysRange, RangeSet
from pykexec.placement.panic_modes import ReservationTooSmall
from pykexec.placement.request import Mode
from tests.backends.kernel.calls import Calls
from tests.builders import make_machine, make_module, ram

RELEASE = "6.1.0-40-amd64"
KALLSYMS = "ffffffff82c5e8a0 D crashk_res\nffffffff83a1f0c4 B __kexec_lock\n"
REGION = PhysRange(0x38000000, 0x38010000)
MODULE = RegionModule(f"/lib/modules/{RELEASE}/updates/pykexec_region.ko", RELEASE, signed=False)
READY = replace(
    make_machine(cmdline="root=/dev/vda1 quiet"),
    architecture="x86_64",
    release=RELEASE,
    capabilities=frozenset({"CAP_SYS_MODULE", "CAP_SYS_BOOT"}),
    lockdown="none",
    symbols=frozenset({"crashk_res", "__kexec_lock"}),
    symbols_hidden=False,
    kexec=KexecState(crash_size=0, crash_loaded=False),
    modules=Modules(
        disabled=False, signatures_required=False, region=MODULE, region_inserted=False
    ),
)
Change = Callable[[Machine], Machine]


def with_region(machine: Machine, inserted: bool = True, loaded: bool = False) -> Machine:
    return replace(
        machine,
        crash_kernel=RangeSet((REGION,)),
        kexec=KexecState(crash_size=REGION.size, crash_loaded=loaded),
        modules=replace(machine.modules, region_inserted=inserted),
    )


def of_modules(**changes: object) -> Change:
    return lambda machine: replace(machine, modules=replace(machine.modules, **changes))  # type: ignore[arg-type]


def on_arm64(
    machine: Machine, cmdline: str, full: str = "y", release: str = "6.12.95+deb12-cloud-arm64"
) -> Machine:
    """`full` is the build option, "" for a kernel that has none."""
    return replace(
        of_modules(region=replace(MODULE, release=release))(machine),
        architecture="aarch64",
        page_size=4096,
        release=release,
        cmdline=cmdline,
        config={"CONFIG_KEXEC": "y", **({RODATA_FULL: full} if full else {})},
    )


@pytest.fixture
def root(tmp_path: Path) -> Folder:
    for name, data in (("proc/kallsyms", KALLSYMS.encode()), (MODULE.path, make_module())):
        path = tmp_path / name.lstrip("/")
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
    return Folder(tmp_path)


def backend(calls: Calls, tmp_path: Path, before: Machine, after: Machine) -> KernelBackend:
    """A machine that changes when the module is inserted or removed."""
    return KernelBackend(calls, tmp_path, lambda: after if calls.others else before)


def test_the_module_is_told_addresses_and_size(root: Folder, tmp_path: Path) -> None:
    calls = Calls()
    acting = backend(calls, tmp_path, READY, with_region(READY))
    made = make(acting, root=root)
    assert calls.others == [
        f"insert pykexec_region.ko region={0xFFFFFFFF82C5E8A0} lock={0xFFFFFFFF83A1F0C4} size=65536"
    ]
    assert (made.span, made.origin, made.refusal) == (REGION, Origin.RUN_TIME, None)


def test_a_module_that_was_named(root: Folder, tmp_path: Path) -> None:
    """A module for another kernel is refused before it is inserted."""
    calls = Calls()
    path = tmp_path / "mine.ko"
    path.write_bytes(make_module())
    nothing = of_modules(region=None)(READY)
    make(backend(calls, tmp_path, nothing, with_region(READY)), 8192, path, root=root)
    assert [line.split()[1] for line in calls.others] == ["mine.ko"]
    path.write_bytes(make_module("6.1.0-41-amd64"))
    with pytest.raises(KexecError) as caught:
        make(backend(Calls(), tmp_path, nothing, READY), 8192, path, root=root)
    assert caught.value.code == "module-of-another-kernel"


REFUSALS: list[tuple[Change, str, int]] = [
    (with_region, "region-exists", 1),
    (of_modules(region_inserted=True), "region-exists", 1),
    (of_modules(region=None), "no-region-module", 5),
    (
        of_modules(region=replace(MODULE, release="6.1.0-41-amd64")),
        "module-of-another-kernel",
        5,
    ),
    (of_modules(disabled=True), "modules-refused", 4),
    (of_modules(signatures_required=True), "modules-refused", 4),
    (lambda it: replace(it, lockdown="integrity"), "modules-refused", 4),
    (lambda it: replace(it, capabilities=frozenset({"CAP_SYS_BOOT"})), "modules-refused", 4),
    (
        lambda it: replace(it, symbols_hidden=True, sysctls=Sysctls(kptr_restrict=2)),
        "symbols-hidden",
        4,
    ),
    (lambda it: replace(it, symbols=frozenset({"crashk_res"})), "no-symbol", 5),
    (lambda it: replace(it, release="5.10.0-30-amd64"), "module-of-another-kernel", 5),
    (lambda it: replace(it, architecture="riscv64"), "untested-kernel", 5),
    (lambda it: on_arm64(it, "quiet", release="6.18.1"), "untested-kernel", 5),
    (lambda it: on_arm64(it, "quiet rodata=on"), "image-not-protected", 5),
    (lambda it: on_arm64(it, "rodata=full rodata=off"), "image-not-protected", 5),
    (lambda it: on_arm64(it, "quiet", "n"), "image-not-protected", 5),
    (lambda it: on_arm64(it, "rodata=noalias", ""), "image-not-protected", 5),
]


@pytest.mark.parametrize(("change", "code", "status"), REFUSALS)
def test_a_machine_that_lacks_something(
    change: Change, code: str, status: int, root: Folder, tmp_path: Path
) -> None:
    """Refused with a hint, without calling the kernel."""
    calls = Calls()
    with pytest.raises(KexecError) as caught:
        make(backend(calls, tmp_path, change(READY), READY), root=root)
    assert (caught.value.code, caught.value.exit_status) == (code, status)
    assert caught.value.hint
    assert calls.others == []


def test_an_untested_series_is_forced() -> None:
    module = replace(MODULE, release="6.18.1")
    new = of_modules(region=module)(replace(READY, release="6.18.1"))
    refused = refusal(new, 65536)
    assert refused
    assert refused.code == "untested-kernel"
    assert "--force" in str(refused.hint_in(PYKEXEC))
    assert refusal(new, 65536, forced=True) is None


@pytest.mark.parametrize(
    ("release", "tested"),
    [("6.1.0-56-cloud-amd64", True), ("6.12.95+deb12", True), ("6.10.1", False), ("7.2.13", True)],
)
def test_the_series_of_a_release(release: str, tested: bool) -> None:
    assert (series(release) in TESTED["x86_64"]) is tested


@pytest.mark.parametrize(
    ("cmdline", "full"),
    [
        ("quiet", "y"),
        ("quiet rodata=full", "n"),
        ("rodata=on rodata=full", "n"),
        ("quiet", ""),
        ("rodata=on", ""),
    ],
)
def test_arm64_with_memory_mapped_in_pages(cmdline: str, full: str) -> None:
    assert refusal(on_arm64(READY, cmdline, full), 65536) is None


def test_an_image_without_protection_is_forced() -> None:
    machine = on_arm64(READY, "rodata=off")
    refused = refusal(machine, 65536)
    assert refused
    assert "rodata=off" in refused.message
    assert "--force" in str(refused.hint_in(PYKEXEC))
    assert refusal(machine, 65536, forced=True) is None


def test_a_signed_module_passes_lockdown() -> None:
    signed = of_modules(region=replace(MODULE, signed=True), signatures_required=True)(READY)
    assert refusal(replace(signed, lockdown="integrity"), 65536) is None


@pytest.mark.parametrize(
    ("errno", "code", "status"),
    [
        (EBUSY, "region-exists", 1),
        (EEXIST, "region-exists", 1),
        (ENOMEM, "no-contiguous-memory", 6),
        (ERANGE, "region-too-large", 6),
        (EFAULT, "wrong-kernel", 5),
        (EAGAIN, "busy", 1),
        (EPERM, "modules-refused", 4),
        (EKEYREJECTED, "modules-refused", 4),
        (ENOEXEC, "wrong-kernel", 5),
    ],
)
def test_what_the_kernel_refuses(
    errno: int, code: str, status: int, root: Folder, tmp_path: Path
) -> None:
    calls = Calls(errors={"insert_module": errno})
    with pytest.raises(KexecError) as caught:
        make(backend(calls, tmp_path, READY, READY), root=root)
    assert (caught.value.code, caught.value.exit_status) == (code, status)
    assert caught.value.hint
    assert "finit_module(" in caught.value.message


class Life:
    """A machine on which inserting and removing the module works."""

    def __init__(self, tmp_path: Path, machine: Machine = READY) -> None:
        self.calls = Calls()
        self.machine = machine
        self.backend = KernelBackend(self.calls, tmp_path, self.facts)

    def facts(self) -> Machine:
        words = [line.split()[0] for line in self.calls.others]
        there = words.count("insert") > words.count("remove")
        return with_region(self.machine) if there else self.machine

    def sizes(self) -> list[str]:
        return [line.rpartition(" ")[2] for line in self.calls.others]


@pytest.fixture
def life(root: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Life:
    """The module is in the captured root, and not on this machine."""
    monkeypatch.setattr(region, "make", partial(make, root=root))
    return Life(tmp_path)


def test_a_load_makes_the_region_that_it_needs(life: Life) -> None:
    assert (
        region.with_region(life.backend, life.backend.machine(), None, lambda: "loaded") == "loaded"
    )
    assert life.sizes() == ["size=65536"]


def test_a_load_that_fails_or_is_interrupted_gives_it_back(life: Life) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        region.with_region(life.backend, life.backend.machine(), Mode.IN_PLACE, interrupted)
    assert life.sizes() == ["size=65536", "pykexec_region"]


def test_a_large_image_gets_a_larger_region(life: Life) -> None:
    answers = iter([ReservationTooSmall("small", hint="", need=70_000), None])

    def run() -> str:
        if error := next(answers):
            raise error
        return "loaded"

    assert region.with_region(life.backend, life.backend.machine(), None, run) == "loaded"
    assert life.sizes() == ["size=65536", "pykexec_region", "size=131072"]


@pytest.mark.parametrize(
    ("machine", "mode"),
    [
        (READY, Mode.KERNEL_SWAP),
        (with_region(READY, inserted=False), None),
        (of_modules(region=None)(READY), None),
    ],
)
def test_a_load_that_makes_none(tmp_path: Path, machine: Machine, mode: Mode | None) -> None:
    """It is not wanted, exists already, or there is no module."""
    life = Life(tmp_path, machine)
    assert (
        region.with_region(life.backend, life.backend.machine(), mode, lambda: "loaded") == "loaded"
    )
    assert life.calls.others == []
    assert with_expected_region(machine, mode) is machine


def test_a_dry_run_plans_with_the_region_that_a_load_would_make() -> None:
    found = with_expected_region(READY, None).crash_kernel
    assert isinstance(found, RangeSet)
    assert found.size == 65536
    assert READY.known_map.ram.covers(found.ranges[0])
    with pytest.raises(KexecError, match="kallsyms hides the addresses"):
        with_expected_region(replace(READY, symbols_hidden=True), None)


def test_a_dry_run_on_a_machine_whose_memory_starts_above_4_gib() -> None:
    span = PhysRange(1 << 40, (1 << 40) + (1 << 30))
    memory = MemoryMap(tuple(ram((span.start, span.end))))
    machine = replace(on_arm64(READY, "quiet"), memory_map=memory, kernel_image=RangeSet())
    found = with_expected_region(machine, None).crash_kernel
    assert isinstance(found, RangeSet)
    assert span.covers(found.ranges[0])


def test_release_removes_the_module(tmp_path: Path) -> None:
    calls = Calls()
    before = with_region(READY)
    assert release(backend(calls, tmp_path, before, READY)).span == REGION
    assert calls.others == ["remove pykexec_region"]


def test_what_the_module_left_behind_is_released_by_the_kernel(tmp_path: Path) -> None:
    """The module was removed while an image was loaded."""
    calls = Calls()
    release(backend(calls, tmp_path, with_region(READY, inserted=False), READY))
    assert calls.others == ["crash size 0"]


@pytest.mark.parametrize(
    ("machine", "code", "status"),
    [
        (READY, "no-region", 3),
        (with_region(READY, loaded=True), "region-in-use", 1),
        (
            replace(with_region(READY, inserted=False), cmdline="quiet crashkernel=64K"),
            "region-exists",
            1,
        ),
    ],
)
def test_what_is_not_released(machine: Machine, code: str, status: int, tmp_path: Path) -> None:
    calls = Calls()
    with pytest.raises(KexecError) as caught:
        release(backend(calls, tmp_path, machine, machine))
    assert (caught.value.code, caught.value.exit_status) == (code, status)
    assert calls.others == []


def test_an_image_that_was_loaded_meanwhile_keeps_the_region(tmp_path: Path) -> None:
    left = with_region(READY, inserted=False, loaded=True)
    with pytest.raises(KexecError) as caught:
        release(backend(Calls(), tmp_path, with_region(READY), left))
    assert caught.value.code == "region-in-use"


def test_show_says_why_none_can_be_made() -> None:
    found = show(of_modules(region=None)(READY))
    assert (found.span, found.size, found.origin) == (None, 0, None)
    assert found.refusal
    assert "crashkernel=64K" in str(found.refusal.hint)
    assert show(with_region(READY)).refusal is None
