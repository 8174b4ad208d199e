"""Systems in a folder, as pykexec setup finds them: Debian with GRUB, with kdump-tools armed,
Fedora with grubby, a system with systemd-boot, and others. Their boot loaders' files have what
these programs write; Fedora's programs themselves are not in Debian's archive, so tests record the
calls of grubby."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

from pykexec.host.captured import Captured, open_root
from pykexec.host.root import Folder
from pykexec.host.setup_facts import BOOT_ID
from tests.host.conftest import FILES as MACHINE

ROOT = Path(__file__).resolve().parents[1]
Files = dict[str, str | bytes | None]
RELEASE = "6.1.0-40-amd64"
UNITS = {
    f"/usr/lib/systemd/system/{path.name}": path.read_text()
    for path in sorted((ROOT / "systemd").iterdir())
    if path.suffix in (".service", ".timer", ".path", ".target")
}
PACKAGE: Files = {
    **UNITS,
    "/usr/lib/udev/rules.d/98-pykexec.rules": "",
    "/usr/share/pykexec/capture/make-initrd": "#!/bin/sh\n",
    "/etc/pykexec.conf": (ROOT / "systemd/pykexec.conf").read_text(),
}
"""What the package of pykexec installs."""
BARE: Files = {
    **{
        path: text
        for path, text in MACHINE.items()
        if "kdump" not in path and path != "/etc/default/grub"
    },
    "/proc/iomem": str(MACHINE["/proc/iomem"]).replace("  3e000000-3e00ffff : Crash kernel\n", ""),
    "/proc/cmdline": "BOOT_IMAGE=/boot/vmlinuz root=/dev/vda1 ro quiet\n",
    BOOT_ID: "b0\n",
    "/sys/kernel/kexec_crash_loaded": "0\n",
    "/sys/kernel/kexec_crash_size": "0\n",
    f"/boot/config-{RELEASE}": "CONFIG_KEXEC=y\nCONFIG_KEXEC_FILE=y\n",
    f"/boot/vmlinuz-{RELEASE}": "",
    f"/lib/modules/{RELEASE}/modules.dep": "",
    "/usr/bin/makedumpfile": "",
    "/etc/systemd/system/multi-user.target.wants/cron.service": "",
    "/run/systemd/system/x": "",
    "/run/udev/control": "",
    **PACKAGE,
}


def captured(name: str) -> Files:
    """The whole files of a captured machine in tests/host."""
    root = open_root(ROOT / f"tests/host/{name}.json")
    assert isinstance(root, Captured)
    return {
        path: found
        for path, found in root.files.items()
        if isinstance(found, bytes) and "@" not in path
    }


MENU = "menuentry 'Debian' {{\n\tlinux\t/boot/vmlinuz root=/dev/vda1 ro quiet{word}\n}}\n"
DEBIAN: Files = {
    **BARE,
    "/etc/kernel/postinst.d/zz-pykexec": "#!/bin/sh\n",
    "/usr/sbin/update-grub": "",
    "/usr/sbin/mkinitramfs": "",
    "/etc/default/grub": 'GRUB_CMDLINE_LINUX_DEFAULT="quiet"\n',
    "/boot/grub/grub.cfg": MENU.format(word=""),
}
KDUMP_CFG = 'GRUB_CMDLINE_LINUX_DEFAULT="$GRUB_CMDLINE_LINUX_DEFAULT crashkernel=512M-:192M"\n'
KDUMP_TOOLS: Files = {
    **DEBIAN,
    "/proc/cmdline": "root=/dev/vda1 ro quiet crashkernel=512M-:192M\n",
    "/proc/iomem": str(MACHINE["/proc/iomem"]).replace("3e000000-3e00ffff", "30000000-3bffffff"),
    "/sys/kernel/kexec_crash_loaded": "1\n",
    "/sys/kernel/kexec_crash_size": f"{192 << 20}\n",
    "/etc/default/grub.d/kdump-tools.cfg": KDUMP_CFG,
    "/boot/grub/grub.cfg": MENU.format(word=" crashkernel=512M-:192M"),
    "/usr/lib/udev/rules.d/50-kdump-tools.rules": "PROGRAM=/usr/sbin/kdump-config try-reload\n",
    "/usr/lib/systemd/system/kdump-tools.service": "[Unit]\n",
    "/etc/systemd/system/multi-user.target.wants/kdump-tools.service": "[Unit]\n",
}
ENTRY = f"""title Linux
version {RELEASE}
linux /vmlinuz-{RELEASE}
initrd /initramfs-{RELEASE}.img
options root=/dev/vda2 ro quiet
"""
FEDORA: Files = {
    **BARE,
    "/usr/sbin/grubby": "",
    "/usr/bin/dracut": "",
    "/usr/sbin/grub2-mkconfig": "",
    "/boot/grub2/grub.cfg": "blscfg\n",
    "/boot/loader/entries/m-old.conf": ENTRY.replace("quiet", "crashkernel=1G-4G:192M"),
    f"/boot/loader/entries/m-{RELEASE}.conf": ENTRY.replace("quiet", "crashkernel=1G-4G:192M"),
    "/etc/kernel/install.d/95-pykexec.install": "",
    "/usr/lib/udev/rules.d/98-kexec.rules": "RUN+=kdump-udev-throttler\n",
    "/usr/lib/systemd/system/kdump.service": "[Unit]\n",
    "/etc/systemd/system/multi-user.target.wants/kdump.service": "[Unit]\n",
    "/proc/cmdline": "root=/dev/vda2 ro crashkernel=1G-4G:192M\n",
    "/proc/iomem": KDUMP_TOOLS["/proc/iomem"],
    "/sys/kernel/kexec_crash_size": f"{192 << 20}\n",
}
SYSTEMD_BOOT: Files = {
    **BARE,
    "/usr/bin/dracut": "",
    "/efi/loader/entries/linux.conf": ENTRY,
    "/efi/loader/entries/windows.conf": "title Windows\nefi /EFI/windows.efi\n",
    "/etc/kernel/postinst.d/zz-pykexec": "#!/bin/sh\n",
    "/proc/cmdline": "initrd=\\initrd root=/dev/vda2 ro quiet\n",
}
ARCH: Files = {
    **BARE,
    "/usr/bin/dracut": "",
    "/usr/bin/grub-mkconfig": "",
    "/etc/default/grub": 'GRUB_CMDLINE_LINUX_DEFAULT="quiet"',
    "/boot/grub/grub.cfg": MENU.format(word=""),
}
RESERVED: Files = {
    **DEBIAN,
    "/proc/iomem": MACHINE["/proc/iomem"],
    "/proc/cmdline": MACHINE["/proc/cmdline"],
    "/sys/kernel/kexec_crash_size": "65536\n",
}
OLD: Files = {
    **RESERVED,
    "/etc/pykexec.conf": None,
    "/etc/default/pykexec": "KERNEL=/boot/mine\nAPPEND='panic=5 root=/dev/a quiet'\nOPTIONS=\n",
}
ARM64_RELEASE = "6.1.0-50-cloud-arm64"
ARM64: Files = {
    **{path: found for path, found in DEBIAN.items() if not path.startswith(("/proc/", "/sys/"))},
    **{path: None for path in DEBIAN if RELEASE in path},
    **captured("arm64/virt-no-region"),
    BOOT_ID: "b0\n",
    f"/boot/config-{ARM64_RELEASE}": "CONFIG_KEXEC=y\n",
    f"/boot/vmlinuz-{ARM64_RELEASE}": "",
    f"/lib/modules/{ARM64_RELEASE}/modules.dep": "",
}
TREES = {
    "arm64-debian-grub": ARM64,
    "debian-grub": DEBIAN,
    "debian-kdump-tools": KDUMP_TOOLS,
    "fedora-grubby": FEDORA,
    "systemd-boot": SYSTEMD_BOOT,
    "grub-mkconfig": ARCH,
    "reserved": RESERVED,
    "old-configuration": OLD,
}


def build(folder: Path, files: Files) -> Folder:
    """Write the files into a folder; None is no file."""
    for path, contents in files.items():
        if contents is not None:
            place = folder / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(contents.encode() if isinstance(contents, str) else contents)
    return Folder(folder)


def apply(root: Folder, command: tuple[str, ...]) -> None:
    """The effect on files of a command of a step, as the programs have it."""
    top = root.path
    match command:
        case ("update-grub",) | ("grub-mkconfig", *_):
            defaults = [top / "etc/default/grub", *sorted(top.glob("etc/default/grub.d/*.cfg"))]
            (top / "boot/grub/grub.cfg").write_text(MENU.format(word=_sourced(defaults)))
        case ("sh", script, release) if script.endswith("make-initrd"):
            place = top / f"var/lib/pykexec/initrd.img-{release}"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(f"initrd of {release}")
        case ("sh", "-c", script, name, folder, *rest):
            subprocess.run(["sh", "-c", script, name, f"{top}{folder}", *rest], check=True)
        case ("grubby", *words):
            _grubby(top, words)
        case ("sysctl", "-q", "-p", path):
            _sysctl(
                top, [line for line in (top / path.lstrip("/")).read_text().split("\n") if line]
            )
        case ("sysctl", "-q", "-w", *words):
            _sysctl(top, words)
        case ("systemctl", "restart", "pykexec-crash.service"):
            (top / "sys/kernel/kexec_crash_loaded").write_text("1\n")
            (top / "var/lib/pykexec/armed").write_text("b0\n")
        case ("systemctl", "stop", *_) if (top / "var/lib/pykexec/armed").exists():
            (top / "var/lib/pykexec/armed").unlink()


def _sysctl(top: Path, lines: list[str]) -> None:
    """It fails at a name that the kernel does not have."""
    for line in lines:
        if not line.startswith("#"):
            name, _, value = line.partition("=")
            file = top / "proc/sys" / name.strip().replace(".", "/")
            assert file.exists(), name
            file.write_text(f"{value.strip()}\n")


def _sourced(files: list[Path]) -> str:
    """What the shell makes of GRUB's defaults, without its first word."""
    text = "".join(f". {shlex.quote(str(path))}\n" for path in files)
    code = f'{text}printf \'%s %s\' "$GRUB_CMDLINE_LINUX" "$GRUB_CMDLINE_LINUX_DEFAULT"'
    done = subprocess.run(["sh", "-c", code], capture_output=True, text=True, check=True)
    line = " ".join(done.stdout.split())
    assert line.startswith("quiet")
    return line.removeprefix("quiet")


def _grubby(top: Path, words: list[str]) -> None:
    """grubby removes the argument, and adds the new one at the end."""
    assert words[:2] == ["--update-kernel=ALL", "--remove-args=crashkernel"]
    added = [word.removeprefix("--args=") for word in words[2:]]
    for path in sorted(top.glob("boot/loader/entries/*.conf")):
        lines = path.read_text().split("\n")
        for at, line in enumerate(lines):
            if line.startswith("options "):
                kept = [word for word in line.split(" ") if not word.startswith("crashkernel=")]
                lines[at] = " ".join([*kept, *added])
        path.write_text("\n".join(lines))


def snapshot(root: Folder) -> dict[str, object]:
    """Every file, link and folder below the root, except what only shows the running state."""
    found: dict[str, object] = {}
    for path in sorted(root.path.rglob("*")):
        name = "/" + str(path.relative_to(root.path))
        if name.startswith(("/proc/", "/sys/", "/run/")):
            continue
        if path.is_symlink():
            found[name] = ("link", str(path.readlink()))
        elif path.is_dir():
            found[name] = "folder"
        else:
            found[name] = (path.stat().st_mode, path.read_bytes())
    return found
