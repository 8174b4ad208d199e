"""Debian machines in QEMU that a controller reaches by ssh, through a port of the loopback
interface."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

from tests.vm.chroot import inside
from tests.vm.debian import install, sh, unpack_resolved
from tests.vm.initramfs import GUEST
from tests.vm.installable import installable
from tests.vm.lab import drives
from tests.vm.machine import PC, Machine
from tests.vm.supplies import TOOLS_SUITE, Kernel, qemu
from tests.vm.system import DISK_SIZE, LABEL

HOST_NAME = "machine-of-the-fleet"
PACKAGES = ("openssh-server", "python3-apt", "sudo")
BOOT_SECONDS, LIFE_SECONDS = 400, 1800
NETWORK = "[Match]\nName=eth0\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\n"
SSHD = "PermitRootLogin yes\nSubsystem sftp /usr/lib/openssh/sftp-server\n"
LAB_UNIT = """
[Unit]
After=ssh.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'stty -F /dev/ttyS1 raw -echo; host mark up'
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def make_key(folder: Path) -> Path:
    """Make a private key, with its public key beside it."""
    if shutil.which("ssh-keygen") is None or shutil.which("ssh") is None:
        install("openssh-client")
    key = folder / "key"
    sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key, why="no key for ssh")
    return key


def make_disk(kernel: Kernel, folder: Path, key: Path) -> Path:
    """Make a disk of the system with an ssh server, and without pykexec."""
    root, disk = folder / "root", folder / "disk.img"
    sh("cp", "-a", installable(kernel), root, why="no room for a disk")
    _add_packages(root)
    ssh = root / "root/.ssh"
    ssh.mkdir(mode=0o700, exist_ok=True)
    shutil.copy(key.with_suffix(".pub"), ssh / "authorized_keys")
    (root / "etc/ssh").mkdir(exist_ok=True)
    (root / "etc/ssh/sshd_config").write_text(SSHD)
    (root / "etc/hostname").write_text(f"{HOST_NAME}\n")
    inside(root, "/usr/bin/ssh-keygen", "-A")
    (root / "run/sshd").mkdir(exist_ok=True)
    inside(root, "/usr/sbin/sshd", "-t")
    (root / "etc/systemd/network").mkdir(parents=True, exist_ok=True)
    (root / "etc/systemd/network/eth0.network").write_text(NETWORK)
    units = root / "etc/systemd/system"
    (units / "lab.service").write_text(LAB_UNIT)
    wants = units / "multi-user.target.wants"
    wants.mkdir(exist_ok=True)
    for name, where in (
        ("lab.service", "/etc/systemd/system"),
        ("ssh.service", "/lib/systemd/system"),
        ("systemd-networkd.service", "/lib/systemd/system"),
    ):
        (wants / name).symlink_to(f"{where}/{name}")
    (root / "usr/bin/host").write_bytes((GUEST / "host.sh").read_bytes())
    (root / "usr/bin/host").chmod(0o755)
    (root / "etc/control").write_text(f"{PC.control_device}\n")
    disk.touch()
    with open(disk, "r+b") as file:
        file.truncate(2 * DISK_SIZE)
    sh("mke2fs", "-q", "-t", "ext4", "-L", LABEL, "-d", root, disk, why="no ext4 disk")
    shutil.rmtree(root)
    return disk


def _add_packages(root: Path) -> None:
    """Unpack the packages over the system, with the user that the maintainer script of ssh
    creates."""
    tree = root.parent / "packages"
    tree.mkdir()
    unpack_resolved(TOOLS_SUITE, PACKAGES, tree)
    for top in ("etc", "usr", "lib", "lib64", "bin", "sbin"):
        if (tree / top).is_dir():
            target = root / (top if top in {"etc", "usr"} else f"usr/{top}")
            sh("cp", "-an", f"{tree / top}/.", target, why="no room for the packages")
    shutil.rmtree(tree)
    with open(root / "etc/passwd", "a", encoding="ascii") as file:
        file.write("sshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n")
    inside(root, "/sbin/ldconfig")


@dataclass
class Host:
    """One machine, which may be started more than once with the same disk."""

    name: str
    kernel: Kernel
    folder: Path
    key: Path
    disk: Path
    port: int = field(default_factory=free_port)
    boots: int = 0
    thread: Thread | None = None

    def start(self, append: str = "") -> None:
        machine = Machine(
            qemu=qemu(),
            kernel=self.kernel.image,
            initrd=installable(self.kernel) / f"boot/initrd.img-{self.kernel.release}",
            append=f"root=LABEL={LABEL} ro net.ifnames=0 crashkernel=64K {append}".strip(),
            mem_mib=1024,
            arguments=(
                *drives([self.disk]),
                *("-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{self.port}-:22"),
                *("-device", "virtio-net-pci,netdev=net"),
            ),
        )
        self.boots += 1
        files = self.folder / f"boot-{self.boots}"
        words = (files, LIFE_SECONDS)
        self.thread = Thread(target=machine.run_here, args=words, daemon=True)
        self.thread.start()

    def wait_until_up(self) -> None:
        """Wait until the ssh server answers. Raises AssertionError."""
        deadline = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < deadline:
            if self.ssh("true", check=False).returncode == 0:
                return
            time.sleep(2)
        raise AssertionError(f"{self.name} is not reachable: {self.console()[-3000:]}")

    def wait_until_down(self, seconds: float) -> None:
        """Wait until the machine is off, or has reset. Raises AssertionError."""
        assert self.thread
        self.thread.join(seconds)
        assert not self.thread.is_alive(), f"{self.name} is still up: {self.console()[-3000:]}"

    def power_off(self) -> None:
        if self.thread and self.thread.is_alive():
            self.ssh("sync; systemctl --no-block poweroff", check=False)
            self.wait_until_down(120)

    def ssh(self, command: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*("ssh", "-p", str(self.port), "-i", self.key), *SSH, "root@127.0.0.1", command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def console(self) -> str:
        log = self.folder / f"boot-{self.boots}" / "console.log"
        return log.read_text(errors="replace") if log.exists() else ""

    def inventory_line(self) -> str:
        return f"{self.name} ansible_port={self.port}"


SSH = (
    *("-o", "BatchMode=yes", "-o", "ConnectTimeout=20", "-o", "LogLevel=ERROR"),
    *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
)


def write_inventory(folder: Path, hosts: list[Host], key: Path) -> Path:
    """Write an inventory of the machines, and of one that is switched off."""
    path = folder / "inventory"
    common = " ".join(SSH)
    path.write_text(
        "\n".join(
            [
                *(host.inventory_line() for host in hosts),
                f"off ansible_port={free_port()}",
                "[all:vars]",
                "ansible_host=127.0.0.1",
                "ansible_user=root",
                "ansible_python_interpreter=/usr/bin/python3",
                f"ansible_ssh_private_key_file={key}",
                f"ansible_ssh_common_args='{common}'",
                "",
            ]
        )
    )
    return path
