"""Debian packages by name, unpacked into a cache folder, without changes to this computer.

apt uses a separate state directory for each suite. The location of the archive comes from the apt
sources of this computer; a suite that they do not list (unstable, backports) is expected at the
same location.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ETC_APT = Path("/etc/apt")
ENDED = frozenset({"bullseye"})
"""Releases that are no longer supported: mirrors list security updates of them that they lack."""
RETRIES = 5
"""Of each download, with increasing pauses."""
LOCK_SECONDS = 600
"""Time to wait for another program that installs packages."""


class Unavailable(Exception):
    """Something that the lab needs is not available; the message says what and why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Source:
    """One archive that this computer's apt uses."""

    uri: str
    suite: str
    signed_by: str = ""

    def line(self, suite: str) -> str:
        """The sources.list line for a suite of this archive."""
        option = f"[signed-by={self.signed_by}] " if self.signed_by else ""
        return f"deb {option}{self.uri} {suite} main\n"


def cache_folder() -> Path:
    """The folder for everything that was fetched or built."""
    if named := os.environ.get("PYKEXEC_CACHE"):
        return Path(named)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "pykexec"
    return Path.home() / ".cache" / "pykexec"


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the cache's lock `name`; other processes wait."""
    try:
        (cache_folder() / "locks").mkdir(parents=True, exist_ok=True)
        file = open(cache_folder() / "locks" / name, "w")  # noqa: SIM115
    except OSError as error:
        raise Unavailable(f"the cache folder cannot be written: {error}") from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _places() -> int:
    """How many guests run at a time: one per processor, and 8 GiB of memory for each."""
    if named := os.environ.get("PYKEXEC_GUESTS"):
        return max(1, int(named))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(len(os.sched_getaffinity(0)), memory >> 33))


@contextmanager
def guest_place() -> Iterator[None]:
    """Hold one of this computer's places for guests; other processes wait."""
    with ExitStack() as stack:
        try:
            (cache_folder() / "locks").mkdir(parents=True, exist_ok=True)
            files = [
                stack.enter_context(open(cache_folder() / "locks" / f"machine-{place}", "w"))
                for place in range(_places())
            ]
        except OSError as error:
            raise Unavailable(f"the cache folder cannot be written: {error}") from error
        while not any(_try_lock(file) for file in files):
            time.sleep(0.2)
        yield


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def sh(*words: str | Path, cwd: Path | None = None, why: str) -> str:
    """The output of a command; a failure becomes `Unavailable`, with `why` before the message."""
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            [str(word) for word in words],
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=900,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{why}: {error}") from error
    if done.returncode:
        output = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise Unavailable(f"{why}: {output[-1] if output else f'exit status {done.returncode}'}")
    return done.stdout


# --- the sources of this computer's apt -----------------------------------------------------


def parse_deb822(text: str) -> list[Source]:
    """The binary archives in a `*.sources` file."""
    found = []
    for stanza in re.split(r"\n\s*\n", re.sub(r"(?m)^#.*\n?", "", text)):
        unfolded = re.sub(r"\n[ \t]+", " ", stanza)
        fields = {
            key.lower(): value.strip()
            for key, _, value in (line.partition(":") for line in unfolded.splitlines())
        }
        if "deb" not in fields.get("types", "").split() or fields.get("enabled") == "no":
            continue
        key = fields.get("signed-by", "")
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                found.append(Source(uri, suite, key if key.startswith("/") else ""))
    return found


def parse_one_line(text: str) -> list[Source]:
    """The binary archives in a `*.list` file."""
    found = []
    for match in re.finditer(r"(?m)^deb\s+(?:\[([^]]*)\]\s*)?(\S+)\s+(\S+)", text):
        key = re.search(r"signed-by=(/\S+)", match[1] or "")
        found.append(Source(match[2], match[3], key[1] if key else ""))
    return found


def machine_sources(etc_apt: Path = ETC_APT) -> list[Source]:
    """Every binary archive that this computer's apt uses."""
    found = []
    for path in sorted([etc_apt / "sources.list", *etc_apt.glob("sources.list.d/*")]):
        if path.suffix in (".list", ".sources") and path.is_file():
            parse = parse_deb822 if path.suffix == ".sources" else parse_one_line
            found += parse(path.read_text(errors="replace"))
    return found


def sources_for(suite: str, known: Sequence[Source]) -> str:
    """A sources.list for `suite`, at the locations that this computer gets packages from.

    A plain release that is supported also gets its security updates, if this computer has an
    archive of those.
    """
    debian = [
        source
        for source in known
        if "debian-archive" in source.signed_by or re.search(r"/debian(-security)?/?$", source.uri)
    ]
    security = [source for source in debian if source.suite.endswith("-security")]
    main = [source for source in debian if source not in security]
    if not main:
        raise Unavailable("this computer's apt sources name no Debian archive")
    lines = [main[0].line(suite)]
    if security and re.fullmatch("[a-z]+", suite) and suite not in {"unstable", *ENDED}:
        lines.append(security[0].line(f"{suite}-security"))
    return "".join(lines)


# --- a separate apt ----------------------------------------------------------------------------


def subfolder(suite: str, architecture: str) -> str:
    """The folder in the cache for one suite and architecture."""
    return suite if architecture == "amd64" else f"{suite}-{architecture}"


@dataclass(frozen=True)
class Apt:
    """apt for one suite and architecture, with its own state directory."""

    suite: str
    architecture: str = "amd64"

    @property
    def state(self) -> Path:
        return cache_folder() / "apt" / subfolder(self.suite, self.architecture)

    def options(self) -> list[str]:
        settings = {
            "Dir::State": self.state,
            "Dir::State::status": self.state / "status",
            "Dir::Cache": self.state / "cache",
            "Dir::Etc::sourcelist": self.state / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "APT::Sandbox::User": "root",
            "APT::Architecture": self.architecture,
            "APT::Architectures": self.architecture,
            "Acquire::Languages": "none",
            "Acquire::Retries": RETRIES,
        }
        return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]

    def update(self) -> None:
        """Make the state directory, and fetch the list of packages."""
        for name in ("lists/partial", "cache/archives/partial"):
            (self.state / name).mkdir(parents=True, exist_ok=True)
        (self.state / "status").touch()
        known = machine_sources()
        if self.architecture != "amd64":  # its security updates are incomplete on mirrors
            known = [source for source in known if not source.suite.endswith("-security")]
        (self.state / "sources.list").write_text(sources_for(self.suite, known))
        sh("apt-get", *self.options(), "-qq", "update", why=f"no package list of {self.suite}")

    def depends(self, package: str) -> tuple[str, list[str]]:
        """The version of a package, and the packages it depends on (first alternatives)."""
        why = f"no package {package} in {self.suite}"
        text = sh("apt-cache", *self.options(), "show", "--no-all-versions", package, why=why)
        fields = dict(re.findall(r"(?m)^([A-Za-z-]+): (.*)$", text))
        if "Version" not in fields:
            raise Unavailable(why)
        wanted = ", ".join(filter(None, (fields.get("Pre-Depends"), fields.get("Depends"))))
        names = [re.split(r"[\s:(|]", word.strip())[0] for word in wanted.split(",")]
        return fields["Version"], [name for name in names if name]

    def closure(self, package: str, follow: Callable[[str], bool]) -> dict[str, str]:
        """A package and those of its dependencies that `follow` accepts: name -> version."""
        found: dict[str, str] = {}
        waiting = [package]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found[name], depends = self.depends(name)
                waiting += filter(follow, depends)
        return found

    def resolved(self, packages: Sequence[str]) -> dict[str, str]:
        """Packages with all their dependencies, for an empty system: name -> version."""
        words = ("--simulate", "--no-install-recommends", "install", *packages)
        why = f"no way to install {', '.join(packages)} of {self.suite}"
        text = sh("apt-get", *self.options(), "-qq", *words, why=why)
        return dict(re.findall(r"(?m)^Inst (\S+) \((\S+)", text))

    def unpack(self, packages: dict[str, str], target: Path) -> None:
        """Download packages, and unpack them all into one tree."""
        with tempfile.TemporaryDirectory(dir=cache_folder()) as folder:
            names = [f"{name}={version}" for name, version in packages.items()]
            listed = ", ".join(list(packages)[:4]) + (", ..." if len(packages) > 4 else "")
            why = f"no download of {listed} from {self.suite}"
            sh("apt-get", *self.options(), "-qq", "download", *names, cwd=Path(folder), why=why)
            for archive in sorted(Path(folder).glob("*.deb")):
                sh("dpkg", "-x", archive, target, why=f"{archive.name} cannot be unpacked")


def nothing(_: str) -> bool:
    """Follow no dependency."""
    return False


def package_tree(
    suite: str,
    package: str,
    follow: Callable[[str], bool] = nothing,
    architecture: str = "amd64",
) -> Path:
    """The folder with an unpacked package, which is fetched if it is not in the cache.

    It is not refreshed: remove the folder to get a newer version.
    """
    target = cache_folder() / "packages" / subfolder(suite, architecture) / package
    with locked("packages"):
        if target.is_dir():
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        apt = Apt(suite, architecture)
        apt.update()
        packages = apt.closure(package, follow)
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=".new-"))
        try:
            temporary.chmod(0o755)
            apt.unpack(packages, temporary)
            names = "".join(f"{name} {version}\n" for name, version in packages.items())
            (temporary / "PACKAGES").write_text(names)
            temporary.rename(target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    return target


def unpack_resolved(
    suite: str, packages: Sequence[str], target: Path, architecture: str = "amd64"
) -> dict[str, str]:
    """Unpack packages and all their dependencies, as resolved for an empty system: name -> version.
    Another process that fetches lists at the same time would take them away."""
    with locked("packages"):
        apt = Apt(suite, architecture)
        apt.update()
        found = apt.resolved(packages)
        apt.unpack(found, target)
    return found


def install(package: str) -> None:
    """Install a package on this computer, which requires root."""
    if os.geteuid() != 0:
        raise Unavailable(f"{package} is not installed, and installing it takes root")
    options = ("-o", f"Acquire::Retries={RETRIES}", "-o", f"DPkg::Lock::Timeout={LOCK_SECONDS}")
    apt = ("apt-get", "-qq", *options)
    words = (*apt, "install", "-y", "--no-install-recommends", package)
    with locked("install"):
        try:
            sh(*words, why=f"{package} cannot be installed")
        except Unavailable:
            sh(*apt, "update", why="apt-get update")
            sh(*words, why=f"{package} cannot be installed")
