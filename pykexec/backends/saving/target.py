"""The folder in which dumps are saved, one folder for each. Everything here runs inside of
`limited`, and raises OSError."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from pykexec.backends.saving.limited import StepFailed


def sync_folder(path: str) -> None:
    """Sync a folder, so that a new name in it survives a reset."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_folder(parent: str, name: str) -> str:
    """Make a new folder for one dump; returns its path."""
    Path(parent).mkdir(mode=0o700, parents=True, exist_ok=True)
    path = f"{parent}/{name}"
    os.mkdir(path, 0o700)
    sync_folder(parent)
    return path


def mount_device(device: str, at: str) -> None:
    """Mount a device with mount(8), which supports LABEL= and UUID=. Raises StepFailed, OSError."""
    Path(at).mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.path.ismount(at):
        return
    done = subprocess.run(
        ["mount", "--", device, at], capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode:
        raise StepFailed(f"{device}: cannot be mounted: {done.stderr.strip()[:200]}")


def names(parent: str) -> list[str]:
    """The entries of a folder; none if it does not exist."""
    return os.listdir(parent) if os.path.isdir(parent) else []


def own_folders(parent: str) -> list[str]:
    """The folders in a folder that belong to this user: in a /var/crash that everybody may write
    to, only these are removed, and others neither count nor are followed."""
    with os.scandir(parent) as found:
        return [
            item.name
            for item in found
            if item.is_dir(follow_symlinks=False)
            and item.stat(follow_symlinks=False).st_uid == os.geteuid()
        ]


def free_space(parent: str) -> int:
    """Free bytes in its file system."""
    found = os.statvfs(parent)
    return found.f_bavail * found.f_frsize


def remove_folder(parent: str, name: str) -> None:
    """Remove a folder with everything in it."""
    shutil.rmtree(f"{parent}/{name}")


def remove_file(path: str) -> None:
    """Remove a file, which may be missing."""
    Path(path).unlink(missing_ok=True)


def rename_folder(path: str, final: str) -> None:
    """Rename a folder so that its new name survives a reset."""
    os.rename(path, final)
    sync_folder(os.path.dirname(final))


def on_disk(path: str) -> int:
    """Bytes that a file uses on the disk."""
    return os.stat(path).st_blocks * 512
