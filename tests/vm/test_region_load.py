"""Ten panics in mode stub-swap with memory and disk busy, each in a region made at run time."""

from __future__ import annotations

from pathlib import Path

import pytest

from .lab import VM
from .product import CAPTURE, CAPTURE_APPEND, PYKEXEC, SETTLED, assert_whole, site, verdict
from .region_module import region_files

PANICS = 10
PATTERN_MIB = 100
DISK_MIB = 256

BUSY = f"""
    while :; do
        dd if=/dev/zero of=/dev/vdc bs=1M count={DISK_MIB} conv=fsync 2> /dev/null || true
        dd if=/dev/vdc of=/dev/null bs=1M count={DISK_MIB} iflag=direct 2> /dev/null || true
    done &
    python3 -c '
while True:
    memory = [bytearray(1 << 16) for _ in range(2000)]
    for piece in memory:
        piece[::4096] = bytes(16)
' &
"""
FIRST = f"""
    python3 -m guest.pattern hold {PATTERN_MIB} /out/frames
    {BUSY}
    sleep $WAIT
    {PYKEXEC} region make --backend kernel --force --json > /out/made.json
    {PYKEXEC} load /boot/vmlinuz --initrd /boot/initrd2 --backend kernel --crash-by-normal \\
        --mode stub-swap --settle 10 --append "{CAPTURE_APPEND}" --json \\
        > /out/plan.json 2> /out/plan.err || {{ cat /out/plan.json; exit 1; }}
    {SETTLED}
    copyout /out
    host mark "panic"
    taskset 2 sh -c 'echo c > /proc/sysrq-trigger'
    sleep 60
"""


@pytest.mark.parametrize("number", range(PANICS))
def test_a_dump_is_whole_whatever_the_machine_was_doing(
    vm: VM, number: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if number and not request.config.getoption("--all-kernels"):
        pytest.skip("one panic under load, and ten with --all-kernels")
    disk = tmp_path / "disk"
    with open(disk, "wb") as file:
        file.truncate((DISK_MIB + 16) << 20)
    result = vm.run(
        f"WAIT={number}\n{FIRST}",
        CAPTURE,
        mem_mib=1536,
        smp=2,
        python=True,
        second_python=True,
        site=site(),
        programs=["makedumpfile"],
        files=region_files(vm.kernel),
        disks=[disk],
        timeout_s=400,
    ).expect(0)
    assert_whole(verdict(result), PATTERN_MIB * 256)
