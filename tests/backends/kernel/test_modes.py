"""Which modes of crash by normal a machine allows, and the reasons against the others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pykexec.backends.kernel.modes import NoMode, choose_modes, mode_warnings
from pykexec.cli.terms import PYKEXEC
from pykexec.machine import BootLoader, Iommus, Machine, Modules, RegionModule, Unknown
from pykexec.memory.map import MemoryMap, MemoryRange, RangeType
from pykexec.memory.ranges import PhysRange, RangeSet
from pykexec.placement.request import Mode
from tests.builders import make_machine

REGION = RangeSet.of([PhysRange(0x38000000, 0x38010000)])
SWAPS = replace(
    make_machine(),
    architecture="x86_64",
    release="6.1.0-40-amd64",
    symbols=frozenset(),
    symbols_hidden=False,
    lockdown="none",
    config={"CONFIG_KEXEC": "y"},
)
COPIES = replace(SWAPS, release="6.14.1", symbols=frozenset({"kexec_pa_swap_page"}))


def reserved(machine: Machine) -> Machine:
    return replace(machine, crash_kernel=REGION)


@pytest.mark.parametrize(
    ("machine", "modes", "lacking"),
    [
        (reserved(SWAPS), (Mode.IN_PLACE, Mode.STUB_SWAP), ()),
        (reserved(COPIES), (Mode.IN_PLACE, Mode.STUB_SWAP), (Mode.KERNEL_SWAP,)),
    ],
)
def test_best_first(machine: Machine, modes: tuple[Mode, ...], lacking: tuple[Mode, ...]) -> None:
    choice = choose_modes(machine, None)
    assert choice.modes == modes
    assert tuple(mode for mode, _ in choice.lacking) == lacking
    assert choice.why(Mode.KERNEL_SWAP).endswith("only pykexec exec starts it")


def test_where_memory_is_reserved_kernel_swap_has_to_be_asked_for() -> None:
    assert choose_modes(reserved(SWAPS), Mode.KERNEL_SWAP).modes == (Mode.KERNEL_SWAP,)


def test_a_region_that_the_stub_would_exchange_is_none() -> None:
    low = replace(SWAPS, crash_kernel=RangeSet((PhysRange(0x80000, 0x90000),)))
    with pytest.raises(NoMode, match="is in memory that the stub exchanges"):
        choose_modes(low, None)


def test_kernel_swap_is_never_chosen_by_itself() -> None:
    """No panic starts it: it must be requested."""
    with pytest.raises(NoMode) as caught:
        choose_modes(SWAPS, None)
    assert caught.value.message == (
        "no panic could start a crash by normal: there is no crash region"
    )
    assert str(caught.value.hint_in(PYKEXEC)).endswith(
        "or boot with crashkernel=64K; use --mode kernel-swap: it works, but only pykexec exec "
        "starts it"
    )
    assert "pykexec region build" in str(caught.value.hint)


def test_a_module_that_is_installed_is_used() -> None:
    module = RegionModule("/lib/modules/6.1.0/updates/pykexec_region.ko", "6.1.0", signed=False)
    with pytest.raises(NoMode) as caught:
        choose_modes(replace(COPIES, modules=Modules(region=module)), Mode.IN_PLACE)
    assert caught.value.hint == "run pykexec region make, or boot with crashkernel=64K"


def test_nothing_works_and_each_reason_is_said() -> None:
    with pytest.raises(NoMode, match="no mode of crash by normal works on this machine") as caught:
        choose_modes(COPIES, None)
    assert caught.value.hint == (
        "in-place, stub-swap: there is no crash region; kernel-swap: this kernel copies "
        "pages at a kexec (it has the symbol kexec_pa_swap_page; CONFIG_KEXEC_JUMP is not "
        "set); install the kernel module that makes one (pykexec region build, or DKMS), or "
        "boot with crashkernel=64K"
    )
    assert caught.value.exit_status == 5


@pytest.mark.parametrize(
    ("boot_loader", "words"),
    [
        (BootLoader("/etc/default/grub", "update-grub"), "/etc/default/grub, then run update-grub"),
        (BootLoader("/boot/firmware/cmdline.txt", ""), "/boot/firmware/cmdline.txt"),
    ],
)
def test_the_remedy_names_the_file_to_change(boot_loader: BootLoader, words: str) -> None:
    """The boot loader's file, and the size that this machine needs: 4 KiB for each GiB of RAM."""
    ram = MemoryMap.of([MemoryRange(PhysRange(0, 64 << 30), RangeType.RAM)])
    machine = replace(SWAPS, memory_map=ram, bootloader=boot_loader)
    remedy = (
        "install the kernel module that makes one (pykexec region build, or DKMS), "
        f"or add crashkernel=320K to {words}, then reboot"
    )
    assert mode_warnings(Mode.KERNEL_SWAP, machine)[1].endswith(remedy)
    with pytest.raises(NoMode) as caught:
        choose_modes(machine, Mode.IN_PLACE)
    assert caught.value.hint == remedy


@pytest.mark.parametrize(
    ("machine", "mode", "message"),
    [
        (SWAPS, Mode.IN_PLACE, "mode in-place: there is no crash region"),
        (COPIES, Mode.KERNEL_SWAP, "mode kernel-swap: this kernel copies pages at a kexec"),
        (
            replace(SWAPS, symbols_hidden=True),
            Mode.KERNEL_SWAP,
            "mode kernel-swap: /proc/kallsyms hides its addresses",
        ),
        (
            replace(SWAPS, lockdown="confidentiality"),
            Mode.KERNEL_SWAP,
            "mode kernel-swap: lockdown=confidentiality: /proc/kcore cannot be read",
        ),
        (
            replace(SWAPS, crash_kernel=Unknown("hidden")),
            Mode.STUB_SWAP,
            "mode stub-swap: the crash region is unknown: hidden",
        ),
        (
            replace(
                reserved(SWAPS),
                cpu_flags=frozenset({"sme"}),
                cmdline="mem_encrypt=off mem_encrypt=on",
            ),
            Mode.IN_PLACE,
            "mode in-place: AMD SME encrypts memory, and the stub would read ciphertext",
        ),
        (SWAPS, Mode.FLAG, "mode flag needs a kernel with KEXEC_CRASH_BY_NORMAL"),
    ],
)
def test_a_mode_that_was_asked_for_and_lacks_something(
    machine: Machine, mode: Mode, message: str
) -> None:
    with pytest.raises(NoMode) as caught:
        choose_modes(machine, mode)
    assert caught.value.message.startswith(message)


def test_the_reason_for_what_was_asked_for() -> None:
    choice = choose_modes(reserved(SWAPS), Mode.STUB_SWAP)
    assert choice.modes == (Mode.STUB_SWAP,)
    assert choice.why(Mode.STUB_SWAP) == "requested by the user"


NO_IOMMU = Iommus((), RangeSet(), RangeSet(), "no such file")
HIDDEN = Iommus(("dmar0",), RangeSet(), RangeSet(), "regset: no such file")
SHOWN = Iommus(("dmar0",), RangeSet(), RangeSet((PhysRange(0x1000, 0x2000),)), None)


@pytest.mark.parametrize(
    ("iommus", "groups", "warning"),
    [
        (NO_IOMMU, 0, None),
        (Unknown("not there"), 0, None),
        (HIDDEN, 12, "their addresses are unknown: regset: no such file"),
        (HIDDEN, 0, "their addresses are unknown: regset: no such file"),
        (SHOWN, 12, "its root tables are avoided, but its page tables may be anywhere"),
        (Unknown("not there"), Unknown("nor this"), "the list of IOMMUs is unknown: not there"),
        (Unknown("not there"), 12, "the list of IOMMUs is unknown: not there"),
        (NO_IOMMU, 12, "their addresses are unknown: no such file"),
    ],
)
def test_an_iommu_does_not_reassure_for_stub_swap(
    iommus: Iommus | Unknown, groups: int | Unknown, warning: str | None
) -> None:
    machine = replace(SWAPS, iommus=iommus, iommu_groups=groups, pci_devices=())
    output = mode_warnings(Mode.STUB_SWAP, machine)
    assert "an IOMMU translates;" not in " ".join(output)
    assert [
        text.rpartition("anywhere: ")[2] for text in output if "tables of an IOMMU" in text
    ] == ([warning] if warning else [])
    for other in (Mode.IN_PLACE, Mode.KERNEL_SWAP):
        assert not any("tables of an IOMMU" in text for text in mode_warnings(other, machine))
    if groups == 12:
        assert "an IOMMU translates; " in mode_warnings(Mode.IN_PLACE, machine)[-1]
        assert "but its tables may be in the window" in output[-1]
