"""A load that replaces an armed image: the old one stays armed until the new one is complete."""

from __future__ import annotations

import pytest

from .lab import VM
from .product import (
    CAPTURE_APPEND,
    PYKEXEC,
    SETTLED,
    assert_whole,
    document,
    site,
    text,
    verdict,
)

PATTERN_MIB = 100
REFUSED = "--replace --crash-by-normal --mode stub-swap --crash-size 64G"
OLD = "/boot/vmlinuz --initrd /boot/initrd2 --backend kernel"
FIRST = f"""
    python3 -m guest.pattern hold {PATTERN_MIB} /out/frames
    {PYKEXEC} load {OLD} {{old}} --append "{CAPTURE_APPEND} image=old" > /out/old
    {PYKEXEC} load {OLD} {REFUSED} --json > /out/refused.json || true
    cat /sys/kernel/kexec_crash_loaded > /out/loaded
    {SETTLED}
    copyout /out
    python3 -m guest.reload {{moment}}
"""
SECOND = """
    copyin /first
    cat /proc/cmdline > /out/cmdline
    python3 -m guest.check_pattern /first/frames /proc/vmcore > /out/verdict.json
    copyout /out
"""


BY_NORMAL = "--crash-by-normal --mode in-place --crash-size 192M"


@pytest.mark.parametrize("old", ["--crash", BY_NORMAL])
@pytest.mark.parametrize(("moment", "image"), [("before", "old"), ("after", "new")])
def test_a_panic_finds_the_old_image_or_the_new_one(
    vm: VM, moment: str, image: str, old: str
) -> None:
    result = vm.run(
        FIRST.format(moment=moment, old=old),
        SECOND,
        append="crashkernel=208M",
        mem_mib=2048,
        smp=2,
        python=True,
        second_python=True,
        site=site(),
    ).expect(0)
    assert document(result, "first/refused.json")["error"]["code"]
    assert text(result, "first/loaded") == "1", "a load that fails leaves what is armed"
    assert f"image={image}" in text(result, "second/cmdline").split()
    assert_whole(verdict(result), PATTERN_MIB * 256)
