"""Two Debian machines, and one that is off, under the playbooks of ansible/: a check that changes
nothing, one machine that refuses, both armed, a second run, a panic whose report is collected, and
undo."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.ansible.controller import Controller, Result, controller
from tests.ansible.hosts import HOST_NAME, Host, make_disk, make_key, write_inventory
from tests.test_build_deb import build

from .debian import guest_place
from .lab import VM
from .supplies import DEFAULT_SERIES

REFUSES = "sysctl.kernel.kexec_load_disabled=1"
FASTER = {"ANSIBLE_PIPELINING": "1", "ANSIBLE_FORKS": "3", "ANSIBLE_HOST_KEY_CHECKING": "0"}


class Fleet:
    """A controller, the machines, and the playbooks as they are run in docs/fleet.md."""

    def __init__(self, vm: VM, folder: Path) -> None:
        self.ansible: Controller = controller(folder)
        key = make_key(folder)
        self.hosts = []
        for name in ("a", "b"):
            (folder / name).mkdir()
            disk = make_disk(vm.kernel, folder / name, key)
            self.hosts.append(Host(name, vm.kernel, folder / name, key, disk))
        self.inventory = write_inventory(folder, self.hosts, key)
        package = build(folder)["pykexec"]
        self.variables = json.dumps({"crash_dump_packages": [str(package)]})
        self.kernel = vm.kernel.image

    def play(self, name: str, *words: str) -> Result:
        options = ("-i", str(self.inventory), "-e", self.variables, *words)
        return self.ansible.playbook(name, *options, **FASTER)

    def both(self, command: str) -> list[str]:
        return [host.ssh(command).stdout.strip() for host in self.hosts]


def counts(result: Result, host: str) -> tuple[int, int, int]:
    recap = result.recap(host)
    return recap["changed"], recap["failed"], recap["unreachable"]


@pytest.fixture(scope="module")
def fleet(
    vm: VM, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    if not request.config.getoption("--all-kernels"):
        pytest.skip("several minutes of two machines: with --all-kernels")
    if vm.kernel.series != DEFAULT_SERIES:
        pytest.skip("what playbooks do does not depend on the kernel")
    with ExitStack() as stack:
        stack.enter_context(guest_place())
        fleet = Fleet(vm, tmp_path_factory.mktemp("fleet"))
        a, b = fleet.hosts
        a.start()
        b.start(REFUSES)
        for host in fleet.hosts:
            stack.callback(host.power_off)
        a.wait_until_up()
        b.wait_until_up()
        yield fleet


def test_the_whole_path(fleet: Fleet) -> None:
    """One test, because each part begins where the one before it has ended."""
    check_changes_nothing(fleet)
    one_refuses_and_one_is_armed(fleet)
    a_second_run_arms_the_other_and_a_third_changes_nothing(fleet)
    they_are_captured_and_planned(fleet)
    a_panic_is_collected(fleet)
    everything_is_taken_back(fleet)


def check_changes_nothing(fleet: Fleet) -> None:
    look = "dpkg-query -W pykexec 2>&1; ls /etc /usr/bin /var/cache | cksum"
    before = fleet.both(look)
    done = fleet.play("arm", "--check", "--diff", "-e", "batch=3", "-e", "failures=50")
    assert counts(done, "off") == (0, 0, 1), done.text
    assert fleet.both(look) == before
    assert "no packages found" in before[0]


def one_refuses_and_one_is_armed(fleet: Fleet) -> None:
    done = fleet.play("arm", "-e", "batch=3", "-e", "failures=70")
    changed, failed, _ = counts(done, "a")
    assert changed and not failed, done.text  # noqa: PT018
    assert counts(done, "b")[1] == 1, done.text
    assert "kexec_load_disabled" in done.text
    assert counts(done, "off")[2] == 1
    assert fleet.both("cat /sys/kernel/kexec_crash_loaded") == ["1", "0"]


def a_second_run_arms_the_other_and_a_third_changes_nothing(fleet: Fleet) -> None:
    b = fleet.hosts[1]
    b.power_off()
    b.start()
    b.wait_until_up()
    words = ("--limit", "a,b", "-e", "batch=2")
    done = fleet.play("arm", *words)
    assert done.status == 0, done.text
    assert counts(done, "a") == (0, 0, 0), done.text
    assert counts(done, "b")[0] > 0, done.text
    for more in ((), ("--check", "--diff")):
        done = fleet.play("arm", *words, *more)
        assert done.status == 0, done.text
        assert [counts(done, name) for name in "ab"] == [(0, 0, 0)] * 2, done.text
    assert fleet.both("cat /sys/kernel/kexec_crash_loaded") == ["1", "1"]
    done = fleet.play("verify", "--limit", "a,b")
    assert done.status == 0, done.text
    assert "Armed, mode" in done.text


def they_are_captured_and_planned(fleet: Fleet) -> None:
    done = fleet.play("capture", "--limit", "a,b")
    assert done.status == 0, done.text
    folder = fleet.ansible.folder / "captures"
    assert sorted(path.name for path in folder.iterdir()) == ["a.json", "b.json"]
    assert HOST_NAME not in (folder / "a.json").read_text()
    done = fleet.play("plan", "-e", f"kernel={fleet.kernel}")
    assert done.status == 0, done.text
    assert "a.json" in done.text


def a_panic_is_collected(fleet: Fleet) -> None:
    a = fleet.hosts[0]
    a.ssh("sync; (sleep 1; echo c > /proc/sysrq-trigger) > /dev/null 2>&1 &")
    a.wait_until_down(400)
    a.start()
    a.wait_until_up()
    done = fleet.play("collect", "--limit", "a,b")
    assert done.status == 0, done.text
    collected = fleet.ansible.folder / "collected"
    assert [path.name for path in collected.iterdir()] == ["a"]
    (dump,) = (collected / "a").iterdir()
    assert {path.name for path in dump.iterdir()} >= {"report.txt", "dmesg.txt", "status.json"}
    assert "sysrq triggered crash" in (dump / "report.txt").read_text()


def everything_is_taken_back(fleet: Fleet) -> None:
    done = fleet.play("undo", "--limit", "a,b", "-e", "batch=2")
    assert done.status == 0, done.text
    gone = "ls /etc/pykexec.conf /usr/bin/pykexec /var/cache/pykexec 2>/dev/null; true"
    assert fleet.both(gone) == ["", ""]
    assert fleet.both("cat /sys/kernel/kexec_crash_loaded") == ["0", "0"]
    done = fleet.play("undo", "--limit", "a,b", "-e", "batch=2")
    assert [counts(done, name) for name in "ab"] == [(0, 0, 0)] * 2, done.text
