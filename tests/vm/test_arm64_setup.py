"""The same as test_setup.py on arm64, from a bare Debian 12 to an armed machine and back; with the
sysctls for panics, which are fewer there."""

from __future__ import annotations

import re

import pytest

from . import test_setup
from .lab import VM
from .supplies import DEFAULT_SERIES
from .test_arm64_region import only_with_all_kernels
from .test_setup import Lived, lived, menu_line, stages_of


@pytest.fixture(scope="module")
def life(
    arm_vm: VM, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Lived:
    only_with_all_kernels(pytestconfig)
    if arm_vm.kernel.series != DEFAULT_SERIES:
        pytest.skip(f"a system with another kernel than {DEFAULT_SERIES} is not put together")
    first, *later = stages_of("bare")
    stages = (first.replace("pykexec setup --", "pykexec setup --panic-sysctls --"), *later)
    return lived(arm_vm, tmp_path_factory.mktemp("setup"), "bare", stages)


def test_apt_installs_the_package(life: Lived) -> None:
    test_setup.test_apt_installs_the_package(life, single=False)


def test_a_check_shows_what_setup_does(life: Lived) -> None:
    test_setup.test_a_check_shows_what_setup_does(life, kdump=False)


def test_the_menu_of_grub_reserves_64_kib(life: Lived) -> None:
    assert re.findall(r"crashkernel=\S+", menu_line(life.lab("menu"))) == ["crashkernel=64K"]


def test_it_is_armed(life: Lived) -> None:
    test_setup.test_it_is_armed(life)


def test_the_dump_is_there_after_the_reboot(life: Lived) -> None:
    test_setup.test_the_dump_is_there_after_the_reboot(life)


def test_a_kernel_update_makes_the_initrd_and_re_arms(life: Lived, arm_vm: VM) -> None:
    test_setup.test_a_kernel_update_makes_the_initrd_and_re_arms(life, arm_vm)


def test_undo_leaves_no_file_and_no_setting_changed(life: Lived) -> None:
    test_setup.test_undo_leaves_no_file_and_no_setting_changed(life, kdump=False)
