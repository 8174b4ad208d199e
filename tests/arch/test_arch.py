"""The numbers of each architecture, against other definitions of the same values."""

from __future__ import annotations

import platform

import pytest

from pykexec.abi import elf, kexec
from pykexec.abi.hugetlb import HUGE_PAGE_SIZE
from pykexec.abi.x86.page import PAGE_SIZE
from pykexec.arch import ARCHITECTURES, ARM64, I386, X86_64, Arch, arch_named


@pytest.mark.parametrize("arch", ARCHITECTURES, ids=lambda arch: arch.name)
def test_each_is_found_by_every_name_that_uname_prints(arch: Arch) -> None:
    assert arch.name in arch.unames
    assert {arch_named(uname) for uname in arch.unames} == {arch}
    assert kexec.ARCH_NAMES[arch.kexec_arch].startswith("KEXEC_ARCH_")


def test_no_two_are_alike() -> None:
    assert len({arch.elf_machine for arch in ARCHITECTURES}) == len(ARCHITECTURES)
    assert arch_named("riscv64") is None


def test_this_machine_is_known() -> None:
    assert arch_named(platform.machine()) in ARCHITECTURES


def test_x86_64_has_the_numbers_of_the_declared_structures() -> None:
    assert X86_64.elf_machine == elf.EM_X86_64
    assert X86_64.prstatus_size == elf.ELF_PRSTATUS_SIZE == elf.elf_prstatus.sizeof()
    assert X86_64.page_size == PAGE_SIZE
    assert X86_64.kexec_arch == kexec.KEXEC_ARCH_X86_64
    assert I386.elf_machine == elf.EM_386
    assert I386.kexec_arch == kexec.KEXEC_ARCH_386
    assert ARM64.kexec_arch == 183 << 16


@pytest.mark.parametrize("arch", ARCHITECTURES, ids=lambda arch: arch.name)
def test_a_kernel_has_one_of_the_page_sizes(arch: Arch) -> None:
    assert arch.page_size in arch.page_sizes
    for size in arch.page_sizes:
        found = arch.with_page_size(size)
        assert found is not None
        assert found.page_size == size
        assert HUGE_PAGE_SIZE % size == 0, "a slot of a window has whole pages"


def test_an_unknown_page_size_matters_where_there_are_several() -> None:
    assert X86_64.with_page_size(None) is X86_64
    assert ARM64.with_page_size(None) is None
    assert ARM64.with_page_size(2 << 20) is None
