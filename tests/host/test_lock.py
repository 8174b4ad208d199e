"""The lock of a folder."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from pykexec.errors import NotPermitted
from pykexec.host.lock import Busy, exclusive

WITHOUT_FLOCK = """
import ctypes, struct, sys
from pathlib import Path
from pykexec.host.lock import NoLocks, exclusive

LOAD_NUMBER, EQUALS, RETURN = 0x20, 0x15, 0x06
FLOCK, ERRNO, ALLOW = 73, 0x00050000, 0x7FFF0000
program = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *each) for each in (
    (LOAD_NUMBER, 0, 0, 0),
    (EQUALS, 0, 1, FLOCK),
    (RETURN, 0, 0, ERRNO | int(sys.argv[2])),
    (RETURN, 0, 0, ALLOW),
)))
filter = ctypes.create_string_buffer(struct.pack("@HP", 4, ctypes.addressof(program)))
libc = ctypes.CDLL(None)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, filter, 0, 0):
    sys.exit("no seccomp filter")
try:
    with exclusive(Path(sys.argv[1])):
        print("locked")
except NoLocks as error:
    print(error.message)
"""
"""A seccomp filter (seccomp(2), SECCOMP_MODE_FILTER) makes flock(2) of x86_64 fail."""


def test_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pykexec.host.lock.WAIT", 0.1)
    folder = tmp_path / "run"
    with exclusive(folder):
        with pytest.raises(Busy, match="run: another pykexec is running"), exclusive(folder):
            pass
        assert folder.stat().st_mode & 0o777 == 0o700
    with exclusive(folder):
        pass


def test_lock_does_not_follow_a_link(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with (
        pytest.raises(NotPermitted, match="too many levels of symbolic links"),
        exclusive(tmp_path),
    ):
        pass
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    ("errno", "why"), [(38, "function not implemented"), (37, "no locks available")]
)
def test_a_system_without_locks(tmp_path: Path, errno: int, why: str) -> None:
    if platform.machine() != "x86_64":
        pytest.skip("the numbers of system calls are those of x86_64")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_FLOCK, str(tmp_path), str(errno)],
        capture_output=True,
        text=True,
        check=False,
    )
    if "no seccomp filter" in done.stderr:
        pytest.skip("this kernel has no seccomp filters")
    assert done.stdout == f"{tmp_path}/lock: cannot be locked: {why}\n", done.stderr
