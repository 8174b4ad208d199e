"""machine.json: converts MachineState to text and back. Version 1.

Every value that is read is checked; an impossible one raises BadMachineFile.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from pykexec.abi.kexec import KEXEC_SEGMENT_MAX
from pykexec.abi.x86.page import PAGE_SIZE
from pykexec.backends.backend import Slot
from pykexec.backends.page_list import DONE
from pykexec.backends.simulated.kernel.allocators import Policy
from pykexec.backends.simulated.kernel.gates import Gates, Lockdown
from pykexec.backends.simulated.kernel.kimage import KImage, LoadedSegment
from pykexec.backends.simulated.kernel.layout import MAX_MEMORY, BadLayout, Layout, RelocateKernel
from pykexec.backends.simulated.store.json_fields import (
    BadMachineFile,
    Fields,
    compact_json,
    frame_runs,
    parse_json,
)
from pykexec.backends.simulated.store.machine_state import MachineState, Phase, Staged
from pykexec.machine import CpuNotes, NoteArea
from pykexec.memory.map import MemoryMap, MemoryRange, RangeType
from pykexec.memory.ranges import BadRange, PhysRange, RangeSet

SCHEMA = "pykexec.simulated/1"
MAX_FILE = 8 << 20
"""Limit for the bytes of machine.json."""
MAX_ROWS = 1 << 14
MAX_NOTE = 64 << 10
COUNTER = 1 << 62


@dataclass(frozen=True, slots=True)
class Pending:
    """Work that was committed and not yet done: see machine_folder.py."""

    memory: bool = False
    """ram.new must be applied to ram."""
    vmcore: bool = False
    """vmcore.new must be renamed to vmcore."""

    def __bool__(self) -> bool:
        return self.memory or self.vmcore


def encode(state: MachineState, pending: Pending) -> bytes:
    """The text of machine.json."""
    layout = state.layout
    value: dict[str, object] = {
        "schema": SCHEMA,
        "memory_map": [
            [item.range.start, item.range.end, item.type.value] for item in layout.memory_map.ranges
        ],
        "release": layout.release,
        "cmdline": layout.cmdline,
        "page_offset_base": layout.page_offset_base,
        "cpus": [[notes.cpu, notes.addr, notes.size] for notes in layout.cpus],
        "vmcoreinfo": [layout.vmcoreinfo.addr, layout.vmcoreinfo.size],
        "reservation": frame_runs(layout.reserved),
        "region_made": layout.region_made,
        "kernel_image": frame_runs(layout.kernel_image),
        "user": frame_runs(layout.user),
        "movable": frame_runs(layout.movable),
        "in_use": frame_runs(layout.in_use),
        "allocator": state.policy.value,
        "relocate": state.relocate.value,
        "seed": state.seed,
        "loads": state.loads,
        "phase": state.phase.value,
        "gates": {
            item.name: str(value) if isinstance(value, Lockdown) else value
            for item in fields(Gates)
            for value in (getattr(state.gates, item.name),)
        },
        "images": {slot.value: _encode_image(image) for slot, image in state.images.items()},
    }
    if state.stage:
        value["stage"] = {
            item.name: frame_runs(getattr(state.stage, item.name)) for item in fields(Staged)
        }
    if pending:
        value["pending"] = {"memory": pending.memory, "vmcore": pending.vmcore}
    return compact_json(value)


def _encode_image(image: KImage) -> dict[str, object]:
    return {
        "start": image.start,
        "head": image.head,
        "swap_page": image.swap_page,
        "by_normal": image.by_normal,
        "control_pages": frame_runs(image.control_pages),
        "parked": frame_runs(image.parked),
        "segments": [[item.name, item.mem, item.memsz, item.bufsz] for item in image.segments],
    }


def decode(raw: bytes) -> tuple[MachineState, Pending]:
    """Raises BadMachineFile."""
    top = Fields(parse_json(raw, "machine.json"))
    if top.value.get("schema") != SCHEMA:
        raise top.wrong("schema", repr(SCHEMA))
    try:
        layout = _decode_layout(top)
    except (BadLayout, BadRange) as error:
        raise BadMachineFile(f"machine.json: {error.message}") from None
    images = top.inner("images")
    state = MachineState(
        layout=layout,
        policy=top.choice("allocator", Policy),
        relocate=top.choice("relocate", RelocateKernel),
        seed=top.integer("seed", -COUNTER, COUNTER),
        loads=top.integer("loads", 0, COUNTER),
        gates=_decode_gates(top.inner("gates")),
        images={
            slot: _decode_image(images.inner(slot.value), layout)
            for slot in Slot
            if slot.value in images
        },
        phase=top.choice("phase", Phase),
        stage=_decode_stage(top.inner("stage"), layout) if "stage" in top else None,
    )
    if "pending" not in top:
        return state, Pending()
    pending = top.inner("pending")
    return state, Pending(pending.boolean("memory"), pending.boolean("vmcore"))


def _decode_layout(top: Fields) -> Layout:
    reserved = top.spans("reservation").ranges
    if len(reserved) > 1:
        raise top.wrong("reservation", "at most one range")
    memory_map = MemoryMap.of(
        MemoryRange(
            PhysRange(row.integer("start"), row.integer("end")), row.choice("type", RangeType)
        )
        for row in rows(top, "memory_map", ("start", "end", "type"))
    )
    vmcoreinfo = named(top, "vmcoreinfo", top.array("vmcoreinfo"), ("addr", "size"))
    return Layout(
        memory_map=memory_map,
        in_use=top.spans("in_use"),
        kernel_image=top.spans("kernel_image"),
        cpus=tuple(
            CpuNotes(
                row.integer("cpu", 0, 1 << 16),
                row.integer("addr", 0, MAX_MEMORY),
                row.integer("size", 1, PAGE_SIZE),
            )
            for row in rows(top, "cpus", ("cpu", "addr", "size"))
        ),
        vmcoreinfo=NoteArea(
            vmcoreinfo.integer("addr", 0, MAX_MEMORY), vmcoreinfo.integer("size", 1, MAX_NOTE)
        ),
        reservation=reserved[0] if reserved else None,
        release=top.text("release"),
        cmdline=top.text("cmdline"),
        page_offset_base=top.integer("page_offset_base"),
        region_made="region_made" in top and top.boolean("region_made"),
        user=top.spans("user") if "user" in top else RangeSet(),
        movable=top.spans("movable") if "movable" in top else RangeSet(),
    )


def _decode_stage(row: Fields, layout: Layout) -> Staged:
    frames = layout.memory_map.whole_page_ram(PAGE_SIZE)
    found = Staged(*(row.spans(item.name) for item in fields(Staged)))
    if found.pages - frames or found.pages & (layout.in_use | layout.kernel | layout.reserved):
        raise row.wrong("pages", "frames of RAM that nobody else has")
    if (found.lent | found.blocks) - layout.movable:
        raise row.wrong("lent", "movable memory")
    return found


def _decode_gates(row: Fields) -> Gates:
    return Gates(
        cap_sys_boot=row.boolean("cap_sys_boot"),
        kexec_load_disabled=row.boolean("kexec_load_disabled"),
        kexec_load_limit_panic=row.integer("kexec_load_limit_panic", -1, COUNTER),
        kexec_load_limit_reboot=row.integer("kexec_load_limit_reboot", -1, COUNTER),
        ima_appraise=row.boolean("ima_appraise"),
        lockdown=row.choice("lockdown", Lockdown),
        busy=row.boolean("busy"),
    )


def _decode_image(row: Fields, layout: Layout) -> KImage:
    in_reservation = "swap_page" not in row
    frames = layout.memory_map.whole_page_ram(PAGE_SIZE)
    control, parked = row.spans("control_pages"), row.spans("parked")
    if (control | parked) - frames:
        raise row.wrong("control_pages", "frames of RAM")
    head = row.integer("head")
    if in_reservation and head != DONE:
        raise row.wrong("head", "IND_DONE alone")
    segments = tuple(
        LoadedSegment(
            item.text("name"),
            item.integer("mem"),
            item.integer("memsz", 0, layout.totalram),
            item.integer("bufsz"),
        )
        for item in rows(row, "segments", ("name", "mem", "memsz", "bufsz"))
    )
    if len(segments) > KEXEC_SEGMENT_MAX:
        raise row.wrong("segments", f"at most {KEXEC_SEGMENT_MAX}")
    for segment in segments:
        if segment.mem + segment.memsz > 1 << 64 or segment.mem % PAGE_SIZE:
            raise row.wrong("segments", "pages of physical memory")
    return KImage(
        start=row.integer("start"),
        head=head,
        segments=segments,
        control_pages=control,
        swap_page=None if in_reservation else frame(row, "swap_page", frames),
        parked=parked,
        by_normal=row.boolean("by_normal"),
    )


def frame(row: Fields, key: str, frames: RangeSet) -> int:
    address = row.integer(key)
    if address % PAGE_SIZE or address not in frames:
        raise row.wrong(key, "a frame of RAM")
    return address


def rows(row: Fields, key: str, names: tuple[str, ...]) -> list[Fields]:
    """A list of lists, with a name for each value."""
    found = row.array(key)
    if len(found) > MAX_ROWS:
        raise row.wrong(key, f"a list of at most {MAX_ROWS}")
    return [named(row, key, item, names) for item in found]


def named(row: Fields, key: str, values: object, names: tuple[str, ...]) -> Fields:
    """A list of fixed length, with a name for each value."""
    if not isinstance(values, list) or len(values) != len(names):
        raise row.wrong(key, f"{', '.join(names)} in a list")
    return Fields(dict(zip(names, values, strict=True)), f"{row.path}: {key}")
