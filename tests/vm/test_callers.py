"""Programs that call kexec work with `pykexec-kexec` instead: Debian's kdump-tools and the init
scripts of its kexec-tools, unchanged, and the calls that kdump-utils makes (its script needs bash,
dracut and more than a guest has).

The scripts come from the packages. The guest has the files that they read: in /etc/default, and
Debian's lsb functions; it has neither syslog nor `file` to recognize an ELF file.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from .debian import package_tree
from .lab import VM
from .machine import Result
from .product import assert_whole, site, text, verdict
from .supplies import TOOLS_SUITE

PATTERN_MIB = 64
DROP_IN = """#!/bin/sh
exec python3 -c 'from pykexec.cli.kexec8 import main; main()' "$@"
"""
KDUMP = """\
USE_KDUMP=1
KDUMP_KERNEL=/boot/vmlinuz
KDUMP_INITRD=/boot/initrd2
KDUMP_COREDIR=/var/crash
"""
KEXEC = """\
LOAD_KEXEC=true
KERNEL_IMAGE=/boot/vmlinuz
INITRD=/boot/initrd2
APPEND="console=ttyS0 panic=1 quiet by=kexec-load"
USE_GRUB_CONFIG=false
"""
CHECK = """
    check() {
        name=$1; shift
        set +e
        "$@" > /out/$name.out 2> /out/$name.err
        echo $? > /out/$name.status
        set -e
        cat /sys/kernel/kexec_crash_loaded > /out/$name.loaded
    }
"""

PANIC = f"""
    {CHECK}
    mkdir -p /var/crash /var/lib/kdump
    python3 -m guest.pattern hold {PATTERN_MIB} /out/frames
    for verb in test load show status unload; do
        check $verb kdump-config $verb
    done
    host mark "kdump-config done"
    LINE="console=ttyS0 panic=1 irqpoll nr_cpus=1 reset_devices"
    set -- --command-line="$LINE" --initrd=/boot/initrd2 /boot/vmlinuz
    check utils-load kexec --elf64-core-headers -p "$@"
    check utils-status kexec -S
    check utils-unload kexec -p -u
    check utils-no-status kexec -S
    check utils-file kexec -s -d -p "$@"
    check utils-file-unload kexec -s -p -u
    check suse kexec -p /boot/vmlinuz --append="$LINE" --initrd=/boot/initrd2 -a
    check size kexec --print-ckr-size
    check suse-unload kexec -p -u
    host mark "calls done"
    echo 'KDUMP_KEXEC_ARGS="-c -d"' >> /etc/default/kdump-tools
    check classic kdump-config load
    python3 -m guest.pattern settle /out/frames
    python3 -m guest.pattern moved /out/frames
    copyout /out
    host mark panic
    echo c > /proc/sysrq-trigger
    sleep 60
"""

CAPTURE = """
    copyin /first
    cat /proc/cmdline > /out/cmdline
    ls -l /proc/vmcore
    python3 -m guest.check_pattern /first/frames /proc/vmcore > /out/verdict.json
    copyout /out
"""

REBOOT = """
    /etc/init.d/kexec-load stop > /out/load.out 2> /out/load.err
    cat /sys/kernel/kexec_loaded > /out/loaded
    copyout /out
    host mark "/etc/init.d/kexec stop"
    /etc/init.d/kexec stop
"""


def debian_files(*packages: str) -> dict[str, bytes | str | Path]:
    """The scripts of these packages, and the drop-in at the place of kexec."""
    files: dict[str, bytes | str | Path] = {"/sbin/kexec": DROP_IN}
    for package in ("sysvinit-utils", *packages):
        tree = package_tree(TOOLS_SUITE, package)
        for folder in ("etc", "lib/lsb", "lib/init", "usr/sbin"):
            if (tree / folder).is_dir():
                files[f"/{folder}"] = tree / folder
    return files


@pytest.fixture(scope="module")
def panic(vm: VM) -> Result:
    """kdump-config and the other calls, then a panic with the image that kdump-config loaded
    last."""
    files = debian_files("kdump-tools")
    return vm.run(
        PANIC,
        CAPTURE,
        append="crashkernel=256M",
        smp=2,
        python=True,
        second_python=True,
        site=site(),
        files={**files, "/etc/default/kdump-tools": KDUMP},
        timeout_s=500,
    ).expect(0)


@pytest.fixture(scope="module")
def reboot(vm: VM) -> Result:
    """kexec-tools' init scripts, in the order of a reboot."""
    files = debian_files("kexec-tools")
    return vm.run(
        REBOOT,
        "cat /proc/cmdline > /out/cmdline; copyout /out; exit 7",
        python=True,
        site=site(),
        files={**files, "/etc/default/kexec": KEXEC},
    ).expect(7)


@pytest.mark.parametrize(
    ("verb", "loaded", "output"),
    [
        ("test", "0", "/sbin/kexec -p --command-line="),
        ("load", "1", "loaded kdump kernel"),
        ("show", "1", "ready to kdump"),
        ("status", "1", "ready to kdump"),
        ("unload", "0", "unloaded kdump kernel"),
        ("classic", "1", "loaded kdump kernel"),
    ],
)
def test_kdump_config(panic: Result, verb: str, loaded: str, output: str) -> None:
    assert text(panic, f"first/{verb}.status") == "0", text(panic, f"first/{verb}.err")
    assert output in text(panic, f"first/{verb}.out")
    assert text(panic, f"first/{verb}.loaded") == loaded


@pytest.mark.parametrize(
    ("name", "status", "loaded"),
    [
        ("utils-load", "0", "1"),
        ("utils-status", "1", "1"),
        ("utils-unload", "0", "0"),
        ("utils-no-status", "0", "0"),
        ("utils-file", "0", "1"),
        ("utils-file-unload", "0", "0"),
        ("suse", "0", "1"),
        ("size", "0", "1"),
        ("suse-unload", "0", "0"),
    ],
)
def test_other_calls(panic: Result, name: str, status: str, loaded: str) -> None:
    assert text(panic, f"first/{name}.status") == status, text(panic, f"first/{name}.err")
    assert text(panic, f"first/{name}.loaded") == loaded


def test_what_is_said(panic: Result) -> None:
    assert text(panic, "first/utils-load.err") == ""
    assert text(panic, "first/size.out") == str(256 << 20)
    output = text(panic, "first/classic.err")
    assert "flags = 0x3e0001" in output
    assert "segment[0].mem   = 0x" in output


def test_the_capture_kernel_has_the_words_of_kdump_tools(panic: Result) -> None:
    """Followed by elfcorehdr=; pykexec adds nothing else."""
    words = text(panic, "second/cmdline").split()
    assert words[:2] == ["console=ttyS0", "panic=1"]
    assert words[-5:-1] == [
        "systemd.unit=kdump-tools-dump.service",
        "nr_cpus=1",
        "irqpoll",
        "usbcore.nousb",
    ]
    assert words[-1].startswith("elfcorehdr=0x")
    assert not any(word.startswith(("crashkernel", "nokaslr", "mce=")) for word in words)


def test_the_dump_is_whole(panic: Result) -> None:
    """Without nokaslr, too."""
    assert_whole(verdict(panic), PATTERN_MIB * 256)


def test_kexec_tools_init_scripts(reboot: Result) -> None:
    assert text(reboot, "first/loaded") == "1", text(reboot, "first/load.err")
    assert text(reboot, "second/cmdline") == "console=ttyS0 panic=1 quiet by=kexec-load"
