"""The folder in which dumps are saved, one folder for each. Everything here runs inside of
`limited`, and raises OSError."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from pykexec.backends.saving.limited import StepFailed


def sync_folder(path: str) -> None:
    """So that a name in it survives a reset."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_folder(parent: str, name: str) -> str:
    """A new folder for one dump, and its path."""
    Path(parent).mkdir(mode=0o700, parents=True, exist_ok=True)
    path = f"{parent}/{name}"
    os.mkdir(path, 0o700)
    sync_folder(parent)
    return path


def mount_device(device: str, at: str) -> None:
    """By mount(8), which knows LABEL= and UUID=. Raises StepFailed, OSError."""
    Path(at).mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.path.ismount(at):
        return
    done = subprocess.run(
        ["mount", "--", device, at], capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode:
        raise StepFailed(f"{device}: cannot be mounted: {done.stderr.strip()[:200]}")


def names(parent: str) -> list[str]:
    """What is in a folder; nothing where there is none."""
    return os.listdir(parent) if os.path.isdir(parent) else []


def free_space(parent: str) -> int:
    """Bytes that its file system has left."""
    found = os.statvfs(parent)
    return found.f_bavail * found.f_frsize


def remove_folder(parent: str, name: str) -> None:
    """With all that is in it."""
    shutil.rmtree(f"{parent}/{name}")


def remove_file(path: str) -> None:
    """Also one that is not there."""
    Path(path).unlink(missing_ok=True)


def rename_folder(path: str, final: str) -> None:
    """So that the new name survives a reset."""
    os.rename(path, final)
    sync_folder(os.path.dirname(final))


def on_disk(path: str) -> int:
    """Bytes that a file takes there."""
    return os.stat(path).st_blocks * 512
