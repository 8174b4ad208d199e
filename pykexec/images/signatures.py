"""Files that are recognized by bytes at one offset; none of them is a kernel or an initrd.

From the specifications of the formats, with names from the magic of file(1).
"""

from __future__ import annotations

from pykexec.frozen import dataclass

TAKE_KERNEL = "extract the kernel from it, and load that"
KERNEL_INSIDE = "mount it, and load the kernel inside it"
UNPACK = "unpack it, and load the kernel inside it"
SHOW_DUMP = "use pykexec vmcore info to see what is in it"
COPY_AGAIN = "copy or download it again"

SECTOR = "only the BIOS can start it; use losetup -P to see the partitions of a disk image"


@dataclass(frozen=True, slots=True)
class Signature:
    """`magic` at the offset `at`, in bytes; `what` with its article."""

    at: int
    magic: bytes
    what: str
    hint: str


DISK, PARTITION = "a disk image", "a file system"
SIGNATURES = (
    Signature(0, b"ANDROID!", "an Android boot image", f"unpack_bootimg: {TAKE_KERNEL}"),
    Signature(0, b"VNDRBOOT", "an Android vendor_boot image", "the kernel is in boot.img"),
    Signature(0, b"AVB0", "Android verified boot metadata (vbmeta)", "the kernel is in boot.img"),
    Signature(0, b"CHROMEOS", "a signed ChromeOS kernel", f"futility: {TAKE_KERNEL}"),
    Signature(0x8001, b"CD001", "an ISO 9660 image (a CD or DVD)", KERNEL_INSIDE),
    Signature(0x8001, b"BEA01", "a UDF image (a DVD)", KERNEL_INSIDE),
    Signature(0, b"hsqs", f"{PARTITION} (squashfs)", KERNEL_INSIDE),
    Signature(0, b"-rom1fs-", f"{PARTITION} (romfs)", KERNEL_INSIDE),
    Signature(0, b"\x45\x3d\xcd\x28", f"{PARTITION} (cramfs)", KERNEL_INSIDE),
    Signature(0x400, b"\xe2\xe1\xf5\xe0", f"{PARTITION} (erofs)", KERNEL_INSIDE),
    Signature(0x438, b"\x53\xef", f"{PARTITION} (ext2, ext3 or ext4)", KERNEL_INSIDE),
    Signature(0x10040, b"_BHRfS_M", f"{PARTITION} (btrfs)", KERNEL_INSIDE),
    Signature(0, b"XFSB", f"{PARTITION} (xfs)", KERNEL_INSIDE),
    Signature(3, b"NTFS    ", f"{PARTITION} (NTFS)", KERNEL_INSIDE),
    Signature(3, b"EXFAT   ", f"{PARTITION} (exFAT)", KERNEL_INSIDE),
    Signature(0x36, b"FAT", f"{PARTITION} (FAT)", KERNEL_INSIDE),
    Signature(0x52, b"FAT32", f"{PARTITION} (FAT)", KERNEL_INSIDE),
    Signature(0, b"LUKS\xba\xbe", "an encrypted volume (LUKS)", KERNEL_INSIDE),
    Signature(0xFF6, b"SWAPSPACE2", "swap space", "use a kernel file such as /boot/vmlinuz"),
    Signature(0, b"QFI\xfb", f"{DISK} (qcow2)", f"guestmount or qemu-nbd: {KERNEL_INSIDE}"),
    Signature(0, b"KDMV", f"{DISK} (VMDK)", f"guestmount or qemu-nbd: {KERNEL_INSIDE}"),
    Signature(0x40, b"\x7f\x10\xda\xbe", f"{DISK} (VDI)", f"qemu-nbd: {KERNEL_INSIDE}"),
    Signature(0, b"vhdxfile", f"{DISK} (VHDX)", f"qemu-nbd: {KERNEL_INSIDE}"),
    Signature(0, b"conectix", f"{DISK} (VHD)", f"qemu-nbd: {KERNEL_INSIDE}"),
    Signature(0x200, b"EFI PART", f"{DISK} with a GPT", f"losetup -P: {KERNEL_INSIDE}"),
    Signature(0, b"MSWIM\0\0\0", "a Windows image (WIM)", "start wimboot, with this as a module"),
    Signature(0, b"KDUMP   ", "a compressed dump of makedumpfile", SHOW_DUMP),
    Signature(0, b"DISKDUMP", "a compressed dump (diskdump)", SHOW_DUMP),
    Signature(
        0, b"makedumpfile\0", "a flattened dump of makedumpfile", "run makedumpfile -R first"
    ),
    Signature(0, b"!<arch>\ndebian-binary", "a Debian package (.deb)", f"dpkg-deb -x: {UNPACK}"),
    Signature(0, b"!<arch>\n", "a static library or ar archive", UNPACK),
    Signature(0, b"\xed\xab\xee\xdb", "an RPM package", f"rpm2cpio: {UNPACK}"),
    Signature(0x101, b"ustar", "a tar archive", UNPACK),
    Signature(0, b"PK\x03\x04", "a zip archive", UNPACK),
    Signature(0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    Signature(0, b"Rar!\x1a\x07", "a rar archive", UNPACK),
    Signature(0, b"MSCF\0\0\0\0", "a cabinet archive", UNPACK),
    Signature(0, b"LZIP", "data compressed with lzip, which is not supported", UNPACK),
    Signature(0, b"\x1f\x9d", "data compressed with compress(1), which is not supported", UNPACK),
    Signature(0, b"%PDF-", "a PDF document", COPY_AGAIN),
    Signature(0, b"\x89PNG\r\n\x1a\n", "a picture (PNG)", COPY_AGAIN),
    Signature(0, b"\xff\xd8\xff", "a picture (JPEG)", COPY_AGAIN),
    Signature(0, b"SQLite format 3\0", "an SQLite database", COPY_AGAIN),
    Signature(0, b"\xcf\xfa\xed\xfe", "a program for macOS (Mach-O)", TAKE_KERNEL),
    Signature(0, b"\xce\xfa\xed\xfe", "a program for macOS (Mach-O)", TAKE_KERNEL),
    Signature(0, b"\0asm", "a WebAssembly module", COPY_AGAIN),
    Signature(
        0x24, b"\x18\x28\x6f\x01", "a kernel for arm (zImage)", "use a kernel for this machine"
    ),
    Signature(0x1FE, b"\x55\xaa", "a boot sector, or a disk image that begins with one", SECTOR),
)
"""In this order: a stronger or longer magic comes first, a boot sector last."""
