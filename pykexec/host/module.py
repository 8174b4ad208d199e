"""The kernel module that makes a crash region: its file, and whether it can be inserted."""

from __future__ import annotations

import re

from pykexec.errors import KexecError, NotSupported
from pykexec.host.root import Root, flag, number, text
from pykexec.images.codecs import HEAD_SIZE, codec_of
from pykexec.images.compression import unpacked
from pykexec.images.contents import Built, OpenFile
from pykexec.machine import Modules, RegionModule, Unknown

NAME = "pykexec_region"
REGION_SYMBOLS = ("crashk_res", "__kexec_lock")
"""The kernel variables whose addresses the module needs. Before 6.0 the lock is a mutex
(kexec_mutex)."""
MODULE_MAX = 16 << 20
"""Limit in bytes for an unpacked module; with debug information it has 400 KiB."""
PACKED_MAX = 4 << 20
FOLDERS = ("updates/dkms", "updates", "extra", "weak-updates")
"""Below /lib/modules/RELEASE: where DKMS and others install out-of-tree modules."""
SUFFIXES = (".ko", ".ko.xz", ".ko.zst", ".ko.gz")
SIGNED = b"~Module signature appended~\n"
"""At the end of the file: include/linux/module_signature.h."""
COMPRESSED_FILE = 4
"""MODULE_INIT_COMPRESSED_FILE of finit_module(2): include/uapi/linux/module.h, since 5.17."""


class NotAModule(NotSupported):
    """A file that is not the module pykexec_region."""

    code = "not-the-module"
    usual_hint = "run pykexec region build to make one for the running kernel"


def kernel_unpacks(root: Root, codec: str) -> bool:
    """Whether the kernel itself unpacks modules with this compression: with
    CONFIG_MODULE_DECOMPRESS it supports one (kernel/module/decompress.c)."""
    return text(root, "/sys/module/compression", 16) == codec


def modules(root: Root, release: str | Unknown) -> Modules:
    """The facts that determine whether the module can be inserted."""
    enforced = text(root, "/sys/module/module/parameters/sig_enforce", 64)
    return Modules(
        disabled=flag(number(root, "/proc/sys/kernel/modules_disabled")),
        signatures_required=enforced if isinstance(enforced, Unknown) else enforced == "Y",
        region=installed(root, release),
        region_inserted=root.exists(f"/sys/module/{NAME}"),
    )


def installed(root: Root, release: str | Unknown) -> RegionModule | Unknown | None:
    """The module for this kernel, in the first folder that has it."""
    if isinstance(release, Unknown):
        return release
    if not re.fullmatch(r"[\w.+~-]{1,64}", release):
        return Unknown(f"not a file name: {release[:40]!r}")
    for folder in FOLDERS:
        path = f"/lib/modules/{release}/{folder}"
        names = root.entries(path)
        for name in (f"{NAME}{suffix}" for suffix in SUFFIXES):
            if not isinstance(names, Unknown) and name in names:
                return _read_installed(root, f"{path}/{name}")
    return None


def _read_installed(root: Root, path: str) -> RegionModule | Unknown:
    """The facts in the file; Unknown if it is not this module."""
    found = root.read(path, PACKED_MAX)
    if isinstance(found, Unknown):
        return found
    try:
        return described(path, found)
    except NotAModule as error:
        return Unknown(error.message)


def read_module(file: OpenFile) -> RegionModule:
    """The same for a given file. Raises NotAModule, UnreadableFile."""
    if file.size > MODULE_MAX:
        raise NotAModule(f"{file.path}: larger than {MODULE_MAX >> 20} MiB")
    return described(str(file.path), file.read(0, file.size))


def described(path: str, packed: bytes) -> RegionModule:
    """Raises NotAModule. If it cannot be unpacked here, that is left to the kernel, and its facts
    are Unknown."""
    codec = codec_of(packed[:HEAD_SIZE])
    image = packed
    if codec:
        try:
            image = b"".join(unpacked(path, Built(packed), codec, MODULE_MAX))
        except NotSupported as error:
            return RegionModule(path, Unknown(error.message), Unknown(error.message))
        except KexecError as error:
            raise NotAModule(error.message) from error
    name, vermagic = _modinfo(image, b"name"), _modinfo(image, b"vermagic")
    if not image.startswith(b"\x7fELF") or name != NAME or not vermagic:
        raise NotAModule(f"{path}: not the kernel module {NAME}")
    return RegionModule(path, vermagic.split()[0], image.endswith(SIGNED))


def _modinfo(image: bytes, key: bytes) -> str | None:
    """A value in the section .modinfo, which has NUL-terminated strings KEY=VALUE."""
    found = re.search(rb"\0" + key + rb"=([^\0]{1,256})\0", image)
    return found[1].decode(errors="replace") if found else None
