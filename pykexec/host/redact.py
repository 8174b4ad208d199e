"""Removes secrets, host names and serial numbers from a captured machine; its plan stays the same.

A value is replaced by as many "x", because a plan may depend on its length.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from pykexec.placement.cmdline import WORD, key_of

if TYPE_CHECKING:
    from pykexec.host.captured import Captured, Record

SECRET_KEYS = frozenset(
    {
        # sources of the root file system and of installers, with accounts in their URLs
        "netroot", "nfsroot", "cifsroot", "root_nfs", "rd.nfs.domain", "iscsi_target_name",
        "inst.repo", "inst.ks", "inst.proxy", "inst.stage2", "ks", "proxy", "url", "auto_url",
        "preseed/url", "autoinst", "cloud_config_url", "ds", "ignition.config.url",
        # names and addresses of the machine
        "ip", "ifname", "bootif", "hostname", "systemd.hostname", "systemd.machine_id",
        "nameserver", "vlan", "rd.route", "netconsole", "rd.iscsi.initiator", "rd.iscsi.username",
        "kgdboe",
        # identities of disks
        "rd.luks.uuid", "rd.luks.name", "rd.md.uuid", "luks.uuid", "luks.name",
    }
)  # fmt: skip
"""Keys of the kernel, dracut, systemd, Anaconda, debian-installer and cloud-init, with - as _."""
SECRET_WORD = re.compile(r"pass(wd|word|phrase)?|secret|token|credential|(^|[._])key$", re.I)
"""Parts of keys for passwords and keys of any program."""
ACCOUNT = re.compile(r"(?<=://)[^/@\s\"]+(?=@)")
IDENTITY = re.compile(r"(?<=ID=)[0-9A-Fa-f-]+")
"""UUID=, PARTUUID=, WWID= of a device."""

COMMAND_LINE = "/proc/cmdline"
MOUNTS = "/proc/self/mounts"
PROCESS = re.compile(r"/proc/(self|\d+)/status")
BOOT_PARAMS = "/sys/kernel/boot_params/data"
EDID = slice(0x140, 0x1C0)
"""boot_params.edid_info, with the monitor's serial number (arch/x86/include/uapi/asm/bootparam.h);
no load passes it on."""
SETTINGS = ("/etc/", "/boot/grub")


def redacted(captured: Captured, keys: Iterable[str] = ()) -> Captured:
    """The same machine without private data; `keys` are added to SECRET_KEYS."""
    secret = SECRET_KEYS | {key_of(key).lower() for key in keys}
    files = {path: _redacted(path, found, secret) for path, found in captured.files.items()}
    return replace(captured, files=files)


def _redacted(path: str, found: Record, secret: Collection[str]) -> Record:
    if not isinstance(found, bytes):
        return found
    if path == COMMAND_LINE or path.startswith(SETTINGS):
        return _text(found, lambda text: redact_line(text, secret))
    if path == MOUNTS:
        return _text(found, _huge_mounts)
    if PROCESS.fullmatch(path):
        return re.sub(rb"(?m)^Name:.*$", b"Name:\tredacted", found)
    if path == BOOT_PARAMS:
        return found[: EDID.start] + bytes(len(found[EDID])) + found[EDID.stop :]
    return found


def _text(found: bytes, change: Callable[[str], str]) -> bytes:
    return change(found.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def redact_line(text: str, secret: Collection[str] = SECRET_KEYS) -> str:
    """Redact a command line, or a file that contains one; white space is preserved."""
    return WORD.sub(lambda match: match[0].replace(match[2], _word(match[2], secret)), text)


def _word(word: str, secret: Collection[str]) -> str:
    key, sign, value = word.partition("=")
    name = key_of(word).lower()
    if sign and (name in secret or SECRET_WORD.search(name) or _is_remote(name, value)):
        return f"{key}={_crossed(value)}"
    word = ACCOUNT.sub(lambda match: _crossed(match[0]), word)
    return IDENTITY.sub(lambda match: _crossed(match[0]), word)


def _is_remote(name: str, value: str) -> bool:
    """A root file system on a server, such as root=iscsi:USER:PASSWORD@HOST (dracut.cmdline(7));
    /dev/ and LABEL= have no colon, and MAJOR:MINOR is no loss."""
    return name == "root" and ":" in value


def _crossed(value: str) -> str:
    """The value with an x for each byte, without its quotes."""
    return "".join(
        letter if letter == '"' else "x" * len(letter.encode("utf-8", "surrogateescape"))
        for letter in value
    )


def _huge_mounts(text: str) -> str:
    """Keep only the mounts that a plan needs, those of hugetlbfs. Others may name servers and
    accounts."""
    lines = [line for line in text.splitlines(keepends=True) if " hugetlbfs " in line]
    return "".join(lines)
