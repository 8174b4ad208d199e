"""The kernel's own style check, scripts/checkpatch.pl, of the source of the kernel module."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest

from tests.vm.debian import Apt, Unavailable, cache_folder, locked

SOURCE = Path(__file__).resolve().parents[2] / "module"
SUITE, PACKAGE = "bookworm", "linux-source-6.1"
NEEDED = ("checkpatch.pl", "spelling.txt", "const_structs.checkpatch")
"""The script, and the lists that it reads from its own folder."""
INSTALLED = "/usr/src/*/scripts/checkpatch.pl"


def checkpatch(may_fetch: bool) -> Path:
    """The script: of this computer, of an earlier test, or of the package with the kernel's whole
    source (140 MB), of which only `NEEDED` is kept."""
    kept = cache_folder() / "checkpatch" / PACKAGE
    found = [*Path("/").glob(INSTALLED.lstrip("/")), *kept.glob(NEEDED[0])]
    if found:
        return found[0]
    if not may_fetch:
        raise Unavailable(f"no {INSTALLED}; --all-kernels fetches one (140 MB)")
    with locked("checkpatch"), tempfile.TemporaryDirectory(dir=cache_folder()) as folder:
        apt = Apt(SUITE)
        apt.update()
        apt.unpack({PACKAGE: apt.depends(PACKAGE)[0]}, Path(folder))
        scripts = Path(folder) / "scripts"
        scripts.mkdir()
        (archive,) = Path(folder).glob("usr/src/*.tar.xz")
        unpack_scripts(archive, scripts)
        kept.parent.mkdir(exist_ok=True)
        shutil.rmtree(kept, ignore_errors=True)
        scripts.rename(kept)
    return kept / NEEDED[0]


def unpack_scripts(archive: Path, target: Path) -> None:
    """Raises Unavailable where the archive lacks one of them."""
    missing = set(NEEDED)
    with tarfile.open(archive) as source:
        for member in source:
            path = Path(member.name)
            if path.parent.name == "scripts" and path.name in missing and member.isfile():
                file = source.extractfile(member)
                assert file
                (target / path.name).write_bytes(file.read())
                missing.remove(path.name)
            if not missing:
                return
    raise Unavailable(f"{archive.name} holds no {', '.join(sorted(missing))}")


def test_checkpatch_finds_nothing(request: pytest.FixtureRequest) -> None:
    if not shutil.which("perl"):
        pytest.skip("no perl")
    try:
        script = checkpatch(bool(request.config.getoption("--all-kernels", default=False)))
    except Unavailable as unavailable:
        pytest.skip(unavailable.reason)
    files = [str(SOURCE / name) for name in ("pykexec_region.c", "Makefile")]
    words = ("perl", str(script), "--no-tree", "--strict", "-f", *files)
    done = subprocess.run(words, capture_output=True, text=True)
    totals = [line for line in done.stdout.splitlines() if line.startswith("total: ")]
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(totals) == len(files)
    assert all(line.startswith("total: 0 errors, 0 warnings, 0 checks, ") for line in totals)
