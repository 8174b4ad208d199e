"""Captured machines of many kinds, as files: sizes, reservations, firmware, refusals."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from pykexec.host.captured import Captured, capture, write_capture
from pykexec.host.root import Folder
from tests.host.conftest import FILES, kcore_headers

MIB, GIB = 1 << 20, 1 << 30
SIZES = {
    "512M": 512 * MIB, "1G": GIB, "2G": 2 * GIB, "4G": 4 * GIB, "16G": 16 * GIB, "64G": 64 * GIB,
    "512G": 512 * GIB, "2T": 2048 * GIB,
}  # fmt: skip
Changes = dict[str, str | bytes | None]
KINDS: dict[str, Changes] = {
    "plain": {},
    "bare": {"/sys/kernel/kexec_crash_size": "0\n"},
    "lockdown": {"/sys/kernel/security/lockdown": "none [integrity] confidentiality\n"},
    "disabled": {"/proc/sys/kernel/kexec_load_disabled": "1\n"},
    "no-gbpages": {"/proc/cpuinfo": "processor\t: 0\nflags\t\t: fpu lm\n"},
    "armed": {"/sys/kernel/kexec_crash_loaded": "1\n"},
    "snp": {"/sys/devices/system/cpu/sev/vmpl": "0\n"},
    "tdx": {"/proc/cpuinfo": "processor\t: 0\nflags\t\t: fpu lm pdpe1gb tdx_guest\n"},
    "fragmented": {},
    "reserved": {"/sys/kernel/kexec_crash_size": f"{256 * MIB}\n"},
    "efi": {
        "/sys/firmware/efi/systab": "ACPI20=0x9f77e014\nSMBIOS3=0x9f7fb000\n",
        "/sys/firmware/efi/fw_vendor": "0x9ed0b018\n",
        "/sys/firmware/efi/runtime": "0x9ed0ab98\n",
        "/sys/firmware/efi/config_table": "0x9ed0af18\n",
    },
    "numa": {"/sys/devices/system/node/node1/memory6/state": "online\n"},
    "balloon": {"/sys/bus/virtio/drivers/virtio_balloon/virtio3/device": "0x0005\n"},
}
"""Of each size: what differs from the machine of the tests of host/."""
CAPTURED = sorted((Path(__file__).parent / "host").glob("*/*.json"))
"""Captured in QEMU by the same command as on a real machine: arm64 with a device tree and with EFI,
PCs with BIOS, with EFI, with two nodes and movable memory, and with holes in their memory."""
COUNT = len(SIZES) * len(KINDS) + len(CAPTURED)
HOLE = 3 * GIB


def write_fleet(folder: Path, work: Path) -> list[Path]:
    """The files, made in the empty folder `work`."""
    paths = []
    for name, captured in machines(work):
        paths.append(folder / f"{name}.json")
        write_capture(captured, paths[-1])
    for path in CAPTURED:
        paths.append(folder / f"{path.parent.name}-{path.name}")
        shutil.copy(path, paths[-1])
    return paths


def machines(work: Path) -> Iterator[tuple[str, Captured]]:
    for size_name, size in SIZES.items():
        for kind, changes in KINDS.items():
            root = work / f"{size_name}-{kind}"
            for path, content in {**FILES, **of_size(size, kind), **changes}.items():
                if content is not None:
                    place = root / path.lstrip("/")
                    place.parent.mkdir(parents=True, exist_ok=True)
                    place.write_bytes(content.encode() if isinstance(content, str) else content)
            yield root.name, capture(Folder(root))


def of_size(size: int, kind: str) -> Changes:
    """Memory with the hole below 4 GiB of every PC, a kernel at 32 MiB, a region of 64 KiB."""
    low_end = min(size, HOLE)
    reserved = 256 * MIB if kind == "reserved" else 64 << 10
    region = low_end - 16 * MIB - reserved
    pieces = [*range(MIB, low_end - 32 * MIB, 64 * MIB)] if kind == "fragmented" else [MIB]
    lines = ["00001000-0009fbff : System RAM"]
    for start, end in zip(pieces, [*pieces[1:], low_end], strict=True):
        hole = 64 << 10 if end < low_end else 0
        lines.append(f"{start:08x}-{end - hole - 1:08x} : System RAM")
        if start == MIB:
            lines += [
                "  02000000-02ffffff : Kernel code",
                "  03000000-033fffff : Kernel rodata",
                "  03400000-037fffff : Kernel data",
                "  03800000-03bfffff : Kernel bss",
            ]
    if kind != "bare":
        lines.append(f"  {region:08x}-{region + reserved - 1:08x} : Crash kernel")
    if size > HOLE:
        lines.append(f"100000000-{4 * GIB + size - HOLE - 1:x} : System RAM")
    total = size >> 10
    return {
        "/proc/iomem": "\n".join(lines) + "\n",
        "/proc/meminfo": f"MemTotal:  {total} kB\nMemFree:  {total // 2} kB\n"
        f"MemAvailable: {total // 2} kB\nHugePages_Total:       0\n",
        "/sys/kernel/kexec_crash_loaded": "0\n",
        "/proc/77/status": None,
    }


__all__ = ["COUNT", "kcore_headers", "write_fleet"]
