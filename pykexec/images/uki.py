"""Unified kernel image: a PE file of systemd-stub with the kernel, its initrd and its
command line in sections (UAPI Group Specifications, 5: Unified Kernel Image).

A UKI may have profiles ("Multi-Profile UKIs" there; find_sections in systemd's src/boot/stub.c):
the sections before the first .profile section are the base, each .profile begins a profile that
overrides sections of the base, and profile 0 is the default. If a profile has two sections of the
same name, the first counts.

The user's options override the image: --initrd replaces .ucode and .initrd, --append or
--reuse-cmdline replaces .cmdline, --dtb replaces .dtb, which x86 does not use. .dtbauto is ignored:
only systemd-stub knows which of several trees is for this machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from pykexec.errors import UsageError
from pykexec.images.contents import Contents, OpenFile, contents_bytes, joined_archives
from pykexec.images.kernel_image import ImageType, Implied, Inside, Profile, Refused, printable
from pykexec.images.pe import PeFile, Section, read_pe
from pykexec.remedies import Advice, Omit, Wish

MAX_TEXT = 16 << 10
"""Limit in bytes for .cmdline, .uname and .profile."""
PROFILE = ".profile"
CONTROL_CHARACTERS = dict.fromkeys(range(0x20), " ")
Sections = dict[str, Section]


class NoSuchProfile(UsageError):
    """A profile that the image does not have."""

    code = "no-such-profile"


def _parse(file: OpenFile, wanted: int | None = None) -> Inside | Refused:
    """The kernel inside, with initrd and command line, or why this is not a UKI. Raises
    NoSuchProfile for a number that it does not have."""
    pe = read_pe(file)
    if isinstance(pe, Refused):
        return pe
    if not any(item.name == ".linux" for item in pe.sections):
        return Refused("a PE file without a .linux section")
    if pe.truncated:
        return Refused(pe.truncated, close=True)
    base, *others = groups(pe.sections)
    profiles = tuple(_profile_of(pe, number, rows[0]) for number, rows in enumerate(others))
    number = _chosen(file, profiles, wanted)
    sections = _first_of_each(base)
    if number is not None:
        sections |= _first_of_each(others[number])
    if ".linux" not in sections:
        return Refused(f"profile {number} has no .linux section", close=True)
    return _contents_of(pe, sections, profiles, number)


def groups(sections: Iterable[Section]) -> list[list[Section]]:
    """The base, then each profile, starting with its .profile section."""
    found: list[list[Section]] = [[]]
    for item in sections:
        if item.name == PROFILE:
            found.append([])
        found[-1].append(item)
    return found


def _first_of_each(sections: Iterable[Section]) -> Sections:
    found: Sections = {}
    for item in sections:
        found.setdefault(item.name, item)
    return found


def _chosen(file: OpenFile, profiles: tuple[Profile, ...], wanted: int | None) -> int | None:
    """The number of the profile to use; None for the base alone, which is profile 0 of an image
    without profiles. Raises NoSuchProfile."""
    number = wanted or 0
    if number < len(profiles):
        return number
    if not number:
        return None
    listed = f"profiles: {'; '.join(map(str, profiles))}"
    there: Advice = listed if profiles else Omit(Wish.PROFILE)
    how_many = f"{len(profiles)} profiles" if profiles else "no profiles"
    raise NoSuchProfile(
        f"{file.path}: there is no profile {number}: this UKI has {how_many}",
        hint=there,
        profiles=[str(item) for item in profiles],
    )


def _contents_of(
    pe: PeFile, sections: Sections, profiles: tuple[Profile, ...], number: int | None
) -> Inside | Refused:
    kernel = pe.inner(sections[".linux"])
    if kernel is None:
        return Refused("its .linux section is empty", close=True)
    cmdline = text(pe, sections, ".cmdline")
    version = text(pe, sections, ".uname")
    if isinstance(cmdline, Refused) or isinstance(version, Refused):
        return cmdline if isinstance(cmdline, Refused) else Refused(".uname is too long", True)
    dtb = pe.contents(sections.get(".dtb"))
    return Inside(
        file=kernel,
        how="uki",
        type="uki",
        implied=Implied(initrd(pe, sections), cmdline or None, dtb),
        version=version or None,
        profiles=profiles,
        profile=number,
    )


def text(pe: PeFile, sections: Sections, name: str) -> str | Refused:
    """A section that is one line of text, or "". Control characters become spaces, as in
    systemd-stub."""
    found = pe.contents(sections.get(name))
    if found is None:
        return ""
    if found.size > MAX_TEXT:
        return Refused(f"{name} has {found.size:#x} bytes, more than {MAX_TEXT:#x}", close=True)
    raw = contents_bytes(found, MAX_TEXT).split(b"\0")[0]
    try:
        return raw.decode().translate(CONTROL_CHARACTERS).strip()
    except UnicodeDecodeError:
        return Refused(f"{name} is not text", close=True)


def initrd(pe: PeFile, sections: Sections) -> Contents | None:
    """.ucode, which must come first, then .initrd."""
    found = (pe.contents(sections.get(name)) for name in (".ucode", ".initrd"))
    return joined_archives(item for item in found if item)


def _profile_of(pe: PeFile, number: int, section: Section) -> Profile:
    """ID and TITLE are only for display: one that is not text or too long is left out."""
    found = pe.contents(section)
    raw = contents_bytes(found, MAX_TEXT) if found and found.size <= MAX_TEXT else b""
    values = dict(_assignments(raw.decode(errors="replace")))
    return Profile(number, values.get("ID"), values.get("TITLE"))


def _assignments(lines: str) -> Iterator[tuple[str, str]]:
    """KEY=VALUE as in os-release(5), without quotes."""
    for line in lines.split("\0", maxsplit=1)[0].splitlines():
        name, is_one, value = line.strip().partition("=")
        quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
        shown = printable((value[1:-1] if quoted else value).encode())
        if is_one and shown:
            yield name, shown


def of_profile(number: int) -> ImageType:
    """A UKI type that selects this profile."""
    return ImageType(UKI.name, partial(_parse, wanted=number))


UKI = ImageType("uki", _parse)
