"""What `pykexec setup` has to know about a machine besides its `Machine`: the files that it may
change, and the programs and units that are installed. Needs a folder, not a captured machine."""

from __future__ import annotations

import os
import re
import sys
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pykexec.frozen import dataclass
from pykexec.host.configuration import PATH as CONFIGURATION
from pykexec.host.file_state import FileState, NotChangeable, missing_folders, read_state
from pykexec.host.others import SERVICES
from pykexec.host.root import Folder, Root, text
from pykexec.machine import Machine, Unknown

if TYPE_CHECKING:
    from collections.abc import Mapping

OLD_CONFIGURATION = "/etc/default/pykexec"
"""Configured what is armed in earlier versions."""
GRUB_DEFAULT = "/etc/default/grub"
GRUB_DROP_IN = "/etc/default/grub.d/zz-pykexec.cfg"
GRUB_MENUS = ("/boot/grub/grub.cfg", "/boot/grub2/grub.cfg")
KERNEL_CMDLINE = "/etc/kernel/cmdline"
ENTRIES = tuple(f"{base}/loader/entries" for base in ("/efi", "/boot/efi", "/boot"))
SYSCTLS = "/etc/sysctl.d/60-pykexec.conf"
UNIT_FOLDER = "/etc/systemd/system"
UNIT_FOLDERS = (
    UNIT_FOLDER,
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
UNIT_SUFFIXES = (".service", ".timer", ".path", ".target")
INITRD_DROP_IN = f"{UNIT_FOLDER}/pykexec-crash.service.d/setup.conf"
RULES_FOLDER = "/etc/udev/rules.d"
RULES = "98-pykexec.rules"
RULES_FOLDERS = (RULES_FOLDER, "/usr/local/lib/udev/rules.d", "/usr/lib/udev/rules.d")
HOOK = "zz-pykexec"
HOOKS = ("/etc/kernel/postinst.d", "/etc/kernel/postrm.d")
"""Folders of programs that Debian's kernel packages run."""
PLUGIN = "95-pykexec.install"
PLUGINS = ("/etc/kernel/install.d", "/usr/lib/kernel/install.d")
"""Folders of programs that kernel-install(8) runs."""
STATE = "/var/lib/pykexec"
CONTAINER = "/run/systemd/container"
"""Written by systemd in a container."""
BOOT_ID = "/proc/sys/kernel/random/boot_id"
PROGRAM_FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
PROGRAMS = (
    "pykexec",
    *("update-grub", "grubby", "grub-mkconfig", "grub2-mkconfig"),
    *("mkinitramfs", "dracut", "makedumpfile"),
)
FILES_MAX = 64
"""Boot loader entries and installed kernels that are looked at."""
SHARE = "share/pykexec"
LOCAL_CAPTURE = f"/usr/local/{SHARE}/capture"
"""Where setup installs what makes the initrd, if pykexec is a single file."""


@dataclass(frozen=True, slots=True)
class SetupFacts:
    """Paths are absolute, below the root."""

    files: Mapping[str, FileState]
    """Every file that may be changed; one that cannot be is missing."""
    unchangeable: Mapping[str, str]
    """Those that cannot be, and why."""
    folders: Mapping[str, tuple[str, ...]]
    """For each of them the folders that do not exist, outermost first."""
    programs: frozenset[str]
    units: Mapping[str, str]
    """The files of those units of pykexec that systemd finds, by name."""
    rules: bool
    """Whether udev finds the rules of pykexec."""
    hook: bool
    """Whether new kernels run the hook of pykexec."""
    hook_folders: tuple[str, ...]
    """The existing folders for hooks."""
    shipped: Mapping[str, str]
    """The text of each file in share/pykexec/systemd, by name."""
    capture: Mapping[str, str]
    """If pykexec is a single file, the text of each file in its share/pykexec/capture, by path
    there; empty otherwise."""
    make_initrd: str | None
    """The script that makes the initrd."""
    kernels: tuple[str, ...]
    """Releases of installed kernels, with an image in /boot and modules."""
    initrds: frozenset[str]
    """Releases for which there is an initrd of pykexec."""
    menu: str | None
    """The menu of GRUB."""
    menu_words: frozenset[str]
    """The different crashkernel= words in the menu of GRUB; "" where an entry has none."""
    entries: tuple[str, ...]
    """Files of boot loader entries."""
    systemd: bool
    """Whether systemd runs, so that units can be started."""
    container: str | None
    """The kind of the container in which systemd runs, such as lxc."""
    udev: bool
    armed: bool
    """Whether pykexec-crash.service has armed this boot."""


def read_facts(root: Folder, machine: Machine) -> SetupFacts:
    """Never raises: what cannot be read is missing."""
    entries = tuple(_entries(root))
    share = _share(root)
    shipped = _shipped(share)
    capture = dict(_capture(share)) if isinstance(share, zipfile.Path) else {}
    paths = [*_paths(root, machine, entries, shipped), *(f"{LOCAL_CAPTURE}/{n}" for n in capture)]
    files, unchangeable, folders = _states(root, paths)
    menu = next((path for path in GRUB_MENUS if root.exists(path)), None)
    return SetupFacts(
        files=files,
        unchangeable=unchangeable,
        folders=folders,
        programs=frozenset(name for name in PROGRAMS if _is_program(root, name)),
        units=dict(_units(root)),
        rules=RULES in set(_named(root, RULES_FOLDERS, RULES)),
        hook=HOOK in set(_named(root, HOOKS[:1], HOOK))
        or PLUGIN in set(_named(root, PLUGINS, PLUGIN)),
        hook_folders=tuple(path for path in (*HOOKS, PLUGINS[0]) if _is_folder(root, path)),
        shipped=shipped,
        capture=capture,
        make_initrd=_script(root, share),
        kernels=tuple(_kernels(root)),
        initrds=frozenset(
            name.removeprefix("initrd.img-") for name in _named(root, (STATE,), "initrd.img-")
        ),
        menu=menu,
        menu_words=frozenset(_menu_words(root, menu)) if menu else frozenset(),
        entries=entries,
        systemd=_is_folder(root, "/run/systemd/system"),
        container=text(root, CONTAINER, 4096) or None,
        udev=_is_folder(root, "/run/udev"),
        armed=_armed(root),
    )


def _paths(
    root: Folder, machine: Machine, entries: Iterable[str], shipped: Iterable[str]
) -> Iterator[str]:
    """Everything that a step may change."""
    yield from (CONFIGURATION, OLD_CONFIGURATION, GRUB_DEFAULT, GRUB_DROP_IN, KERNEL_CMDLINE)
    yield from (SYSCTLS, INITRD_DROP_IN, f"{RULES_FOLDER}/{RULES}")
    yield from (f"{folder}/{HOOK}" for folder in HOOKS)
    yield f"{PLUGINS[0]}/{PLUGIN}"
    yield from entries
    yield from (f"{UNIT_FOLDER}/{name}" for name in (*SERVICES, *shipped))
    yield from (enabling(*pair) for pair in ENABLED)
    for path in machine.reload_rules or ():
        yield f"{RULES_FOLDER}/{path.rpartition('/')[2]}"


ENABLED = (
    ("pykexec-crash.service", "multi-user.target"),
    ("pykexec-saved.service", "multi-user.target"),
    ("pykexec-check.timer", "pykexec-crash.service"),
    ("pykexec-rearm.path", "pykexec-crash.service"),
)
"""Each unit with [Install], and its WantedBy= (tests/test_units.py)."""


def enabling(unit: str, wanted_by: str) -> str:
    """The link by which a unit is started with another."""
    return f"{UNIT_FOLDER}/{wanted_by}.wants/{unit}"


def _states(
    root: Folder, paths: Iterable[str]
) -> tuple[dict[str, FileState], dict[str, str], dict[str, tuple[str, ...]]]:
    files, unchangeable, folders = {}, {}, {}
    for path in dict.fromkeys(paths):
        try:
            files[path] = read_state(root, path)
            folders[path] = missing_folders(root, path)
        except NotChangeable as error:
            unchangeable[path] = error.message
        except OSError as error:
            unchangeable[path] = f"{path}: {(error.strerror or str(error)).lower()}"
    return files, unchangeable, folders


def _named(root: Root, folders: Iterable[str], prefix: str) -> Iterator[str]:
    """The names in these folders that begin with a prefix."""
    for folder in folders:
        names = root.entries(folder)
        yield from (name for name in names or () if name.startswith(prefix))


def _units(root: Root) -> Iterator[tuple[str, str]]:
    """The files of pykexec's units by name, from folders of increasing precedence."""
    for folder in reversed(UNIT_FOLDERS):
        for name in _named(root, (folder,), "pykexec-"):
            if name.endswith(UNIT_SUFFIXES):
                yield name, f"{folder}/{name}"


def _is_folder(root: Root, path: str) -> bool:
    return not isinstance(root.entries(path), Unknown)


def _is_program(root: Root, name: str) -> bool:
    return any(root.exists(f"{folder}/{name}") for folder in PROGRAM_FOLDERS)


def _entries(root: Root) -> Iterator[str]:
    """The files of boot loader entries, in the first folder that has some."""
    for folder in ENTRIES:
        names = [name for name in root.entries(folder) or () if name.endswith(".conf")]
        if names:
            yield from (f"{folder}/{name}" for name in names[:FILES_MAX])
            return


def _kernels(root: Root) -> Iterator[str]:
    modules = root.entries("/lib/modules")
    for name in list(_named(root, ("/boot",), "vmlinuz-"))[:FILES_MAX]:
        release = name.removeprefix("vmlinuz-")
        if release in (modules or ()):
            yield release


def _menu_words(root: Root, menu: str) -> Iterator[str]:
    """The crashkernel= words in the menu of GRUB, of each entry that starts Linux."""
    for line in root.matching_lines(menu, r"^\s*linux\w*\s") or ():
        yield " ".join(re.findall(r"(?<=\s)crashkernel=\S+", line))


def _armed(root: Root) -> bool:
    boot = text(root, BOOT_ID, 4096)
    return bool(boot) and text(root, f"{STATE}/armed", 4096) == boot


PACKAGE = Path(__file__).resolve().parents[2]
"""The folder with the package pykexec: the checkout, or the single file."""


def _share(root: Folder) -> Path | zipfile.Path | None:
    """The folder share/pykexec of this installation, or the checkout; for another root, the folder
    of a package in it. A single file has its own, which a package goes before."""
    places = [Path(sys.prefix) / SHARE, Path("/usr/local") / SHARE, Path("/usr") / SHARE, PACKAGE]
    if PACKAGE.is_file():
        places = [root.path / "usr" / SHARE]
    elif not root.is_whole:
        places = [root.path / place / SHARE for place in ("usr", "usr/local")]
    found = next((place for place in places if (place / "capture/make-initrd").exists()), None)
    return zipfile.Path(PACKAGE, f"{SHARE}/") if found is None and PACKAGE.is_file() else found


def _capture(share: zipfile.Path) -> Iterator[tuple[str, str]]:
    folder = share / "capture"
    for item in folder.iterdir():
        if item.is_dir():
            yield from ((f"{item.name}/{part.name}", part.read_text()) for part in item.iterdir())
        else:
            yield item.name, item.read_text()


def _shipped(share: Path | zipfile.Path | None) -> dict[str, str]:
    """The text of each unit file in it by name; none with the Debian package, which installs
    them."""
    folder = share / "systemd" if share else None
    if folder is None or not folder.is_dir():
        return {}
    found = {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}
    return dict(sorted(found.items()))


def _script(root: Folder, share: Path | zipfile.Path | None) -> str | None:
    if share is None:
        return None
    if isinstance(share, zipfile.Path):
        return f"{LOCAL_CAPTURE}/make-initrd"
    path = share / "capture/make-initrd"
    return str(path) if root.is_whole else "/" + os.path.relpath(path, root.path)
