"""A rehearsal with real kernels: two initramfs, one QEMU, and a verdict on the guests' output."""

from __future__ import annotations

import gzip
import json
import os
import pkgutil
import platform
from base64 import b64decode
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pykexec
from pykexec.crash.pattern import PATTERN_SIZE
from pykexec.documents.codec import decode
from pykexec.documents.plan import backup_map_of
from pykexec.dump.core_file import CoreFile, open_core
from pykexec.dump.vmcore_check import expected_of_document, judge
from pykexec.errors import CheckFailed, KexecError, NotSupported
from pykexec.flows.rehearse.simulated import (
    LoadFacts,
    NoProgress,
    Progress,
    Rehearsal,
    blame_memory,
)
from pykexec.images.arm64.image import ARM64_IMAGE
from pykexec.images.compression import spooled
from pykexec.images.contents import joined_archives
from pykexec.images.identify import identify
from pykexec.images.kernel_image import LinuxArm64Boot
from pykexec.images.x86.bzimage import BZIMAGE64
from pykexec.memory.ranges import align_down
from pykexec.placement.estimate import crash_size
from pykexec.placement.initrd import check_initrd
from pykexec.placement.request import ImageKind, LoadRequest, Mode
from pykexec.qemu.board import PC, VIRT
from pykexec.qemu.guest import INITRD, KERNEL, WISHES
from pykexec.qemu.machine import Computer, GuestSession, qemu, running
from pykexec.qemu.messages import GuestDump, GuestMessages, Refused
from pykexec.qemu.python import NoPython, OwnPython, python_tree
from pykexec.qemu.unpacked_python import UnpackedPython

if TYPE_CHECKING:
    from pykexec.images.contents import Contents
    from pykexec.images.kernel_image import KernelImage
    from pykexec.qemu.board import Board
    from pykexec.qemu.newc import Tree
    from pykexec.qemu.python import Python

APPEND = "panic=1 quiet"
"""For both kernels, with the console, so that their last messages are there."""
CODECS = ("encodings.ascii", "encodings.latin_1")
"""Imported by name, for text in these encodings."""
PAGES_RESERVED = 8
LIMIT_BASE, LIMIT_PER_GIB = 300, 180
"""Limit in seconds for everything; about five times what an idle machine needs."""


class NoFirstKernel(KexecError):
    """The machine of a rehearsal ended before the panic."""

    code = "no-first-kernel"


class NoDump(CheckFailed):
    """No capture kernel read the complete dump after the panic."""

    code = "no-dump"


@dataclass(frozen=True, slots=True)
class QemuMachine:
    """The machine to rehearse on; sizes in bytes, `used` in percent of the memory."""

    memory: int = 1 << 30
    used: int = 40
    cpus: int = 2
    reserved: int = 64 << 10
    """crashkernel=, for a kernel with pages of 4 KiB"""
    system: str | None = None
    """A folder with an unpacked system, whose Python the guests run; None for this Python."""

    def for_kernel(self, image: KernelImage) -> QemuMachine:
        """The stub is as large with larger pages, but the kernel takes some of them as well."""
        page = image.boot.page_size if isinstance(image.boot, LinuxArm64Boot) else None
        return replace(self, reserved=max(self.reserved, PAGES_RESERVED * (page or 0)))


def rehearse_in_qemu(
    kernel: str | os.PathLike[str],
    request: LoadRequest,
    image_type: str | None = None,
    stage: QemuMachine | None = None,
    progress: Progress | None = None,
) -> Rehearsal:
    """Raises NoQemu, NoPython, NoFirstKernel, NoDump, and the error of a refused load."""
    tell = progress or NoProgress()
    image = identify(kernel, image_type, request.profile)
    board = board_of(image)
    qemu(board)
    chosen = (stage or QemuMachine()).for_kernel(image)
    python = python_for(board, chosen.system)
    check_initrd(image, replace(request, kind=ImageKind.CRASH_BY_NORMAL))
    tell.step("making the guests")
    asked = sized(image, replace(request, initrd=capture_initrd(board, python, request.initrd)))
    computer = _first_computer(board, python, os.fspath(kernel), asked, image_type, chosen)
    try:
        with running(computer) as session:
            messages = listen(session, LIMIT_BASE + LIMIT_PER_GIB * chosen.memory / (1 << 30), tell)
    except KexecError as error:
        blame_memory(error, request, chosen.memory)
        raise
    return verdict(image, chosen, messages)


def _first_computer(
    board: Board,
    python: Python,
    kernel: str,
    request: LoadRequest,
    image_type: str | None,
    stage: QemuMachine,
) -> Computer:
    """The machine, with everything that both kernels need in its initramfs. The initrd of `request`
    is that of the capture kernel."""
    assert request.initrd, "capture_initrd() gives it"
    tree, variables = guest_tree("first", everything(), python)
    append = f"console={board.console} {APPEND} {variables}"
    options = [f"--append={append}", *_load_options(request, image_type)]
    fill = max(PATTERN_SIZE, align_down(stage.memory * stage.used // 100, PATTERN_SIZE))
    tree.write(KERNEL, Path(kernel).read_bytes())
    tree.write(INITRD, b"".join(bytes(chunk) for chunk in request.initrd.chunks()))
    tree.write(WISHES, json.dumps({"fill": fill, "load": options}))
    words = f"{append} crashkernel={stage.reserved}"
    return Computer(board, kernel, tree.archive(), words, stage.memory, stage.cpus)


def board_of(image: KernelImage) -> Board:
    """The machine for an image that QEMU's -kernel can start. Raises NotSupported."""
    found = BOARDS_OF.get(image.type)
    if found is None or image.wrapped:
        name = " in ".join((image.type, *image.wrapped))
        raise NotSupported(
            f"--engine qemu needs a {' or an '.join(BOARDS_OF)}, but this is of type {name}",
            hint="use the kernel as it is in /boot, not a container or an archive of it",
        )
    return found


BOARDS_OF = {BZIMAGE64.name: PC, ARM64_IMAGE.name: VIRT}
"""By the type of an image."""


def python_for(board: Board, system: str | None) -> Python:
    """The Python of the guests on a machine. Raises NoPython."""
    if system is not None:
        return UnpackedPython(system, board.arch)
    if platform.machine() not in board.arch.unames:
        raise NoPython(
            f"the guests need a Python for {board.arch.name}, and this one is for "
            f"{platform.machine()}",
            hint=f"give an unpacked system of {board.arch.name} with --guest-root, or use a "
            f"machine of {board.arch.name}",
        )
    return OwnPython()


def _load_options(request: LoadRequest, image_type: str | None) -> list[str]:
    """The request as options for `pykexec load`; the initrd is made elsewhere."""
    wishes = {
        "--mode": request.mode,
        "--mem-min": request.mem_min,
        "--mem-max": request.mem_max,
        "--crash-size": request.crash_size,
        "--type": image_type,
    }
    words = [f"{name}={value}" for name, value in wishes.items() if value is not None]
    words.append("--no-initrd-check")  # the user's own file was checked here
    return [*words, *(f"--append={text}" for text in request.append)]


def everything() -> list[str]:
    """All modules of pykexec, and what `python -m` needs."""
    found = pkgutil.walk_packages(pykexec.__path__, "pykexec.")
    return [*(item.name for item in found), "runpy"]


def guest_tree(role: str, modules: list[str], python: Python) -> tuple[Tree, str]:
    """The files of a guest with pykexec.qemu.ROLE as process 1, and its environment variables,
    which the kernel takes from its command line: without /dev, Python has no random seed."""
    tree, library_path = python_tree([f"pykexec.qemu.{role}", *CODECS, *modules], python)
    for folder in ("proc", "sys", "dev", "run", "tmp"):
        tree.folder(folder)
    start = f"from pykexec.qemu.{role} import main\nmain()\n"
    tree.write("/init", f"#!{python.program}\n{start}", 0o755)
    return tree, f"LD_LIBRARY_PATH={library_path} PYTHONHASHSEED=0"


def capture_initrd(board: Board, python: Python, before: Contents | None) -> Contents:
    """The rehearsal's own initrd, compressed, after an initrd of the user, whose /init it
    replaces."""
    tree, _ = guest_tree("second", [*board.readers], python)
    own = spooled("initrd", iter([gzip.compress(tree.archive(), 3, mtime=0)]))
    parts = [own.span(0, own.size)]
    found = joined_archives([before, *parts] if before else parts)
    assert found, "its own"
    return found


def sized(image: KernelImage, request: LoadRequest) -> LoadRequest:
    """With the estimate for all parts of its initrd, unless the user gave a size or both bounds: in
    the guest they are one file, in which the end of the first compressed archive cannot be seen."""
    if request.crash_size or (request.mem_min is not None and request.mem_max is not None):
        return request
    return replace(request, crash_size=crash_size(image, request.initrd, request.append).size)


def listen(session: GuestSession, limit: float, tell: Progress) -> GuestMessages:
    """Receive everything that the guests report, up to the dump."""
    received: dict[str, Any] = {}
    for message in session.messages(limit):
        if "step" in message:
            tell.step(str(message["step"]))
        received |= message
        if "refused" in received or ("dump" in received and "filled" in received):
            break
    messages = _decoded(received, session)
    if messages.refused and messages.filled is None:
        raise refusal(messages.refused, messages.status)
    if messages.refused or not messages.plan or not messages.dump or messages.filled is None:
        raise _no_answer(messages, session, limit)
    return messages


def _decoded(found: dict[str, Any], session: GuestSession) -> GuestMessages:
    """Raises NoFirstKernel for messages that pykexec does not send."""
    try:
        return decode(GuestMessages, found)
    except ValueError as error:
        raise NoFirstKernel(
            f"the output of the guest cannot be read: {error}"[:300],
            hint=f"last line on its console: {session.last_words}",
            console=session.last_lines,
        ) from error


def refusal(fault: Refused, status: int) -> KexecError:
    """The error of the load in the guest, as if it had occurred here."""
    error = KexecError(fault.message, hint=fault.hint)
    error.code, error.exit_status = fault.code, status
    return error


def _no_answer(messages: GuestMessages, session: GuestSession, limit: float) -> KexecError:
    """Which kernel failed, and how."""
    kind, who = (NoDump, "capture") if messages.filled is not None else (NoFirstKernel, "first")
    if messages.refused:
        how = f"failed: {messages.refused.message}"
    elif session.timed_out:
        how = f"did not finish within {limit:.0f} seconds"
    else:
        how = "crashed, or ended the guest"
    hint = f"last line on its console: {session.last_words}"
    return kind(f"the {who} kernel {how}", hint=hint, console=session.last_lines)


def verdict(image: KernelImage, stage: QemuMachine, messages: GuestMessages) -> Rehearsal:
    """Check every rule, with the contents that the plan requires in the dump."""
    plan, dump = messages.plan, messages.dump
    assert plan, "listen() gives it"
    assert plan.elfcorehdr, "a crash by normal that is loaded has ELF core headers"
    assert dump, "listen() gives it"
    expected = expected_of_document(plan)
    wanted = replace(expected, cpus=messages.cpus)
    facts = LoadFacts(
        image,
        Mode(plan.mode) if plan.mode else None,
        plan.window.range if plan.window else None,
        backup_map_of(plan),
        plan.elfcorehdr.range,
        plan.elfcorehdr.program_headers,
        plan.page_size,
        messages.warnings,
    )
    found = judge(_core_of(dump), wanted, dump.patterns)
    return Rehearsal("qemu", stage, facts, messages.filled or 0, found)


def _core_of(dump: GuestDump) -> CoreFile:
    """The dump without its memory: a file with the same headers and size."""
    fd = os.memfd_create("vmcore")
    try:
        os.write(fd, b64decode(dump.head))
        os.truncate(fd, dump.size)
        return open_core(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
