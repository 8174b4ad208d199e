"""A UKI's own initrd and command line, and the user's, which take precedence with a note."""

from __future__ import annotations

from pathlib import Path

import pytest

from pykexec.images.contents import Built
from pykexec.images.identify import identify
from pykexec.images.kernel_image import KernelImage
from pykexec.placement.implied import with_implied
from pykexec.placement.plan import PlacementPlan
from pykexec.placement.plan_load import plan_load
from pykexec.placement.request import LoadRequest
from tests.builders import make_bzimage, make_machine, make_uki, write
from tests.placement import names

MACHINE = make_machine(cmdline="quiet")


@pytest.fixture
def uki(tmp_path: Path) -> KernelImage:
    return identify(write(tmp_path, "uki.efi", make_uki(extra=((b".dtb", b"\xd0\x0d"),))))


def planned(image: KernelImage, request: LoadRequest) -> PlacementPlan:
    return plan_load(image, MACHINE, with_implied(image, request))


def test_what_the_uki_has_is_used(uki: KernelImage) -> None:
    plan = planned(uki, LoadRequest())
    assert str(plan.cmdline) == "root=/dev/vda1 ro"
    initrd = plan.named(names.INITRD)
    assert initrd is not None
    assert initrd.contents is uki.implied.initrd
    assert plan.warnings == (
        "using the initrd inside the uki",
        "using the command line inside the uki",
        "ignoring the .dtb inside the uki: x86 does not use it",
    )


def test_the_user_wins(uki: KernelImage) -> None:
    own = Built(b"own")
    plan = planned(uki, LoadRequest(initrd=own, append=("single",)))
    assert str(plan.cmdline) == "single"
    initrd = plan.named(names.INITRD)
    assert initrd is not None
    assert initrd.contents is own
    assert plan.warnings[:2] == (
        "the initrd inside the uki is replaced",
        "the command line inside the uki is replaced: 'root=/dev/vda1 ro'",
    )


def test_reuse_is_a_word_of_the_user_too(uki: KernelImage) -> None:
    plan = planned(uki, LoadRequest(reuse_cmdline=True))
    assert str(plan.cmdline) == "quiet"
    assert "the command line inside the uki is replaced: 'root=/dev/vda1 ro'" in plan.warnings


def test_twice_is_as_once(uki: KernelImage) -> None:
    once = with_implied(uki, LoadRequest())
    assert with_implied(uki, once) == once


def test_a_plain_kernel_implies_nothing(tmp_path: Path) -> None:
    image = identify(write(tmp_path, "k", make_bzimage()))
    assert with_implied(image, LoadRequest()) == LoadRequest()
    assert planned(image, LoadRequest()).warnings == ()


def test_which_profile_is_used_is_said(tmp_path: Path) -> None:
    extra = ((b".profile", b"ID=main"), (b".profile", b"TITLE=Reset"), (b".cmdline", b"reset"))
    path = write(tmp_path, "uki.efi", make_uki(extra=extra))
    plan = planned(identify(path), LoadRequest())
    assert plan.warnings[0] == "using profile 0 main of the uki"
    assert str(plan.cmdline) == "root=/dev/vda1 ro"
    plan = planned(identify(path, profile=1), LoadRequest(profile=1))
    assert plan.warnings[0] == "using profile 1 Reset of the uki"
    assert str(plan.cmdline) == "reset"
