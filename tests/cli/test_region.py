"""A crash region of the simulated machine, verb by verb, like that of the module on a real one."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Run, RunJson

CREATE = ("machine", "create", "m", "--memory", "128M", "--used", "20")


def test_make_show_release(run: Run, run_json: RunJson) -> None:
    run(*CREATE)
    before = run("machine", "show", "m").stdout
    assert "none\n" in run("region", "show", "--machine", "m", status=3).stdout
    made = run_json("region", "make", "--machine", "m")
    assert (made["change"], made["origin"]) == ("made", "run time")
    assert made["size"] == made["need"] == 64 << 10
    assert int(made["region"]["end"], 16) - int(made["region"]["start"], 16) == 64 << 10
    shown = run_json("region", "show", "--machine", "m")
    assert {**shown, "change": "made"} == made
    assert "made at run time" in run("region", "show", "--machine", "m").stdout
    released = run_json("region", "release", "--machine", "m")
    assert released == {**made, "change": "released"}
    assert "none\n" in run("region", "show", "--machine", "m", status=3).stdout
    assert run("machine", "show", "m").stdout == before


def test_a_crash_image_is_loaded_into_it_and_a_panic_starts_it(run: Run) -> None:
    """A region that was made at run time ends with its kernel."""
    run("machine", "create", "m", "--memory", "256M", "--used", "0")
    load = ("load", "bzImage", "--machine", "m", "--crash")
    assert "there is no crash region" in run(*load, status=6).stderr
    run("region", "make", "48M", "--machine", "m")
    run(*load)
    assert "crash image is loaded" in run("region", "release", "--machine", "m", status=1).stderr
    run("machine", "crash", "m")
    run("region", "show", "--machine", "m", status=3)


def test_one_of_the_boot_is_kept(run: Run, run_json: RunJson) -> None:
    run(*CREATE, "--crashkernel", "4M")
    assert run_json("region", "show", "--machine", "m")["origin"] == "boot"
    assert "already, made at boot" in run("region", "make", "--machine", "m", status=1).stderr
    assert "reserved at boot" in run("region", "release", "--machine", "m", status=1).stderr
    assert run_json("region", "show", "--machine", "m")["size"] == 4 << 20


@pytest.mark.parametrize(
    ("size", "status", "message"),
    [
        ("0", 2, "a size is at least 1"),
        ("3K", 2, "must be a multiple of 4096"),
        ("5G", 6, "more than 4 GiB or half of the memory"),
        ("60M", 6, "no 61440 KiB of contiguous free memory"),
        ("70M", 6, "more than 4 GiB or half of the memory"),
    ],
)
def test_a_size_that_cannot_be(run: Run, size: str, status: int, message: str) -> None:
    """On a machine with little contiguous memory."""
    run("machine", "create", "m", "--memory", "128M", "--used", "60")
    before = run("machine", "show", "m").stdout
    assert message in run("region", "make", size, "--machine", "m", status=status).stderr
    assert run("machine", "show", "m").stdout == before


def test_release_without_one(run: Run) -> None:
    run(*CREATE)
    done = run("region", "release", "--machine", "m", status=3)
    assert "there is no crash region" in done.stderr
    assert "pykexec region make" in done.stderr


def test_options_of_the_real_kernel(run: Run) -> None:
    assert "for the real kernel" in run("region", "make", "--force", status=2).stderr
