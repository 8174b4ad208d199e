"""A small kernel in memory: symbols, types, tasks, modules, ORC tables and CPUs, as far as a report
reads them. It has two CPUs, of which the second panicked; one task is blocked, one is a thread."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Literal

from pykexec.crash.notes import CORE, Note
from tests.dump.btf import Btf
from tests.dump.builders import EM_X86_64, LINES, TEXT, Line, Memory, add_ring, elf

SIZE, PHYS_BASE = 256 << 10, 0x8000
TEXT_SIZE = 0x1000
TASK_SIZE = 128
FUNCTIONS = {
    "_stext": 0x0, "schedule": 0x100, "vpanic": 0x200, "panic": 0x300, "do_wait": 0x400,
    "sys_wait": 0x500, "entry_SYSCALL_64": 0x600, "asm_exc_page_fault": 0x700, "_etext": 0xF00,
}  # fmt: skip
MODULE_TEXT = 0x1000
"""After the kernel's own, in the same image: any mapped memory will do."""
PAGE = 4096

Rules = Literal["per-cpu", "base", "entry"]
Numbers = Literal["6.1", "6.12", "7.x"]
Unnamed = Literal["6.1", "5.10", "4.19", "4.5"]
FORMS: dict[Unnamed, tuple[int, int, int]] = {
    "6.1": (4, 4, 3), "5.10": (4, 4, 0), "4.19": (4, 8, 0), "4.5": (8, 8, 0),
}  # fmt: skip
"""Bytes of an offset or address, of a marker, and of a symbol in the order of names."""


@dataclass
class Task:
    pid: int
    comm: bytes
    state: int = 1
    tgid: int | None = None
    exit_state: int = 0
    resident: tuple[int, int, int, int] | None = None
    calls: tuple[int, ...] = ()
    """Return addresses on its stack, innermost first, 16 bytes apart."""
    address: int = 0


TASKS = (
    Task(1, b"init", resident=(100, 200, 5, 7)),
    Task(2, b"kthreadd"),
    Task(7, b"a) (b\x1b[m", 2, calls=(0x110, 0x410, 0x510, 0x610)),
    Task(8, b"worker\xff", 0x402),
    Task(9, b"python3", 1, resident=(10, 5000, 0, 0)),
    Task(10, b"python3", 0, tgid=9),
    Task(11, b"gone", 0, exit_state=0x20),
)


@dataclass
class Kernel:
    """`at` has the image address of everything stored by name."""

    current_task: ClassVar[str] = "current_task"
    tasks: tuple[Task, ...] = TASKS
    rules: Rules = "per-cpu"
    numbers: Numbers = "6.12"
    lines: Iterable[Line] = LINES
    interrupted_cs: int = 0x10
    panicked_at: int = 0x210
    machine: int = EM_X86_64
    size: int = SIZE
    phys_base: int = PHYS_BASE
    unnamed: Unnamed | None = None
    """The layout of kallsyms without keys in VMCOREINFO."""
    memory: Memory = field(init=False)
    symbols: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.memory = memory = Memory(
            size=self.size, phys_base=self.phys_base, huge=False, machine=self.machine
        )
        memory.used = self.phys_base + 2 * TEXT_SIZE
        self.symbols |= {name: TEXT + at for name, at in FUNCTIONS.items()}
        add_ring(memory, self.lines)
        self.add_btf()
        self.add_cpus()
        self.add_tasks()
        self.add_module()
        self.add_orc()
        self.add_counters()
        self.add_kallsyms()

    # --- putting things --------------------------------------------------------------------

    def put(self, data: bytes, name: str = "", align: int = 8) -> int:
        """Store bytes, and return their address in the kernel's image."""
        memory = self.memory
        at = memory.take(len(data), align)
        memory.ram[at : at + len(data)] = data
        addr = TEXT + at - self.phys_base
        if name:
            self.symbols[name] = addr
        return addr

    def poke(self, addr: int, data: bytes) -> None:
        at = addr - TEXT + self.phys_base
        self.memory.ram[at : at + len(data)] = data

    def word(self, addr: int, value: int) -> None:
        self.poke(addr, struct.pack("<Q", value & (1 << 64) - 1))

    # --- types -----------------------------------------------------------------------------

    def add_btf(self) -> None:
        btf = Btf()
        u8, u32, u64 = btf.integer("u8", 1), btf.integer("u32", 4), btf.integer("u64", 8)
        pointer = btf.pointer()
        heads = btf.struct("list_head", 16, [("next", 0, pointer), ("prev", 8, pointer)])
        name = btf.array(u8, 16)
        thread = self.thread_type(btf, u64)
        inside = btf.struct("", 16, [("exit_state", 0, btf.alias("int", u32)), ("mm", 8, pointer)])
        btf.struct(
            "task_struct", TASK_SIZE,
            [
                ("__state", 0, u32), ("tasks", 8, heads), ("pid", 24, u32), ("tgid", 28, u32),
                ("real_parent", 32, pointer), ("comm", 40, name), ("", 56, inside),
                ("signal", 72, pointer), ("thread_node", 80, heads), ("thread", 96, thread),
                ("cpu", 120, u32),
            ],
        )  # fmt: skip
        btf.struct("signal_struct", 16, [("thread_head", 0, heads)])
        if self.numbers == "6.1":
            counts = btf.struct("mm_rss_stat", 32, [("count", 0, btf.array(u64, 4))])
            btf.struct("mm_struct", 40, [("rss_stat", 8, counts)])
        else:
            counter = btf.struct(
                "percpu_counter", 16, [("count", 0, u64), ("counters", 8, pointer)]
            )
            btf.struct("mm_struct", 72, [("rss_stat", 8, btf.array(counter, 4))])
        part = btf.struct("module_memory", 16, [("base", 0, pointer), ("size", 8, u32)])
        arch = btf.struct(
            "mod_arch_specific", 24,
            [("num_orcs", 0, u32), ("orc_unwind_ip", 8, pointer), ("orc_unwind", 16, pointer)],
        )  # fmt: skip
        btf.struct(
            "module", 152,
            [
                ("state", 0, u32), ("list", 8, heads), ("name", 24, btf.array(u8, 56)),
                ("taints", 80, u64), ("mem", 88, btf.array(part, 2)), ("kallsyms", 120, pointer),
                ("arch", 128, arch),
            ],
        )  # fmt: skip
        btf.struct(
            "mod_kallsyms", 24,
            [("symtab", 0, pointer), ("num_symtab", 8, u32), ("strtab", 16, pointer)],
        )  # fmt: skip
        last = ("end", 42, 1, u8) if self.numbers == "6.1" else ("signal", 43, 1, u8)
        kind = 2 if self.numbers == "6.1" else 3
        btf.fields(
            "orc_entry", 6,
            [
                ("sp_offset", 0, 0, u32), ("bp_offset", 16, 0, u32), ("sp_reg", 32, 4, u8),
                ("bp_reg", 36, 4, u8), ("type", 40, kind, u8), last,
            ],
        )  # fmt: skip
        btf.struct("resource", 24, [("start", 0, u64), ("end", 8, u64), ("name", 16, pointer)])
        btf.struct("kimage", 16, [("start", 0, u64), ("nr_segments", 8, u64)])
        btf.enum("zone_stat_item", {"NR_FREE_PAGES": 0})
        btf.enum("node_stat_item", {"NR_SLAB_RECLAIMABLE_B": 0, "NR_ANON_MAPPED": 1})
        data = btf.data
        self.symbols["__stop_BTF"] = self.put(data, "__start_BTF") + len(data)

    def thread_type(self, btf: Btf, u64: int) -> int:
        return btf.struct("thread_struct", 8, [("sp", 0, u64)])

    # --- CPUs and tasks --------------------------------------------------------------------

    def add_cpus(self) -> None:
        """Per-CPU areas are in the image too; the offset of a symbol is its own address."""
        self.put(struct.pack("<I", 2), "nr_cpu_ids")
        self.current = self.put(bytes(64), self.current_task)
        self.put(struct.pack("<QQ", 0, 32), "__per_cpu_offset")
        self.put(struct.pack("<I", 1), "panic_cpu")
        self.put(bytes(8), "crash_notes")
        self.put(struct.pack("<Q", 1 << 9 | 1 << 12), "tainted_mask")
        self.put(b"Built Machine 1.0\0", "dump_stack_arch_desc_str")

    def add_tasks(self) -> None:
        nodes = [self.put(bytes(TASK_SIZE), align=16) for _ in self.tasks]
        idle = self.put(bytes(TASK_SIZE), "init_task", 16)
        self.fill_task(idle, Task(0, b"swapper/0", 0), idle)
        for addr, task in zip(nodes, self.tasks, strict=True):
            task.address = addr
            self.fill_task(addr, task, nodes[0])
        leaders = [t.address for t in self.tasks if t.tgid in (None, t.pid)]
        self.link([idle, *leaders], 8)
        for leader in leaders:
            signal = self.put(bytes(16))
            pid = next(t.pid for t in self.tasks if t.address == leader)
            mine = [t.address for t in self.tasks if (t.tgid or t.pid) == pid]
            for addr in mine:
                self.word(addr + 72, signal)
            self.link_to(signal, [addr + 80 for addr in mine])
        for cpu, current in enumerate((idle, nodes[0])):
            self.word(self.current + 32 * cpu, current)
            self.poke(current + 120, struct.pack("<I", cpu))

    def fill_task(self, addr: int, task: Task, parent: int) -> None:
        self.poke(addr, struct.pack("<I", task.state))
        self.poke(addr + 24, struct.pack("<IIQ", task.pid, task.tgid or task.pid, parent))
        self.poke(addr + 40, task.comm.ljust(16, b"\0"))
        self.poke(addr + 56, struct.pack("<I", task.exit_state))
        if task.resident:
            self.word(addr + 64, self.mm_of(task.resident))
        self.poke(addr + 96, self.thread_of(task.calls))

    def mm_of(self, counts: tuple[int, int, int, int]) -> int:
        if self.numbers == "6.1":
            return self.put(struct.pack("<8x4q", *counts))
        # Each CPU has one more page that it has not yet added.
        parts = self.put(struct.pack("<i28xi", 1, 1))
        rows = b"".join(struct.pack("<qQ", count - 2, parts) for count in counts)
        return self.put(bytes(8) + rows)

    def thread_of(self, calls: tuple[int, ...]) -> bytes:
        """struct thread_struct of a task that sleeps."""
        return struct.pack("<Q", self.stack_of(calls))

    def stack_of(self, calls: tuple[int, ...]) -> int:
        """A stack with an inactive_task_frame that returns to the first of the calls."""
        if not calls:
            return 0
        words = [0] * 6 + [TEXT + calls[0]]
        for call in calls[1:]:
            words += [0xAAAA, TEXT + call]
        words += [0xBBBB, TEXT + 0x7F0, 0]
        return self.put(struct.pack(f"<{len(words)}Q", *words), align=16)

    def link(self, nodes: list[int], offset: int) -> None:
        self.link_to(nodes[0] + offset, [addr + offset for addr in nodes[1:]])

    def link_to(self, head: int, nodes: list[int]) -> None:
        ring = [head, *nodes]
        for number, addr in enumerate(ring):
            after, before = ring[(number + 1) % len(ring)], ring[number - 1]
            self.poke(addr, struct.pack("<QQ", after, before))

    # --- modules and ORC -------------------------------------------------------------------

    def add_module(self) -> None:
        addr = self.put(bytes(152))
        self.module = addr
        self.poke(addr + 24, b"drv\0")
        self.word(addr + 80, 1 << 12)
        self.poke(addr + 88, struct.pack("<QI4xQI", TEXT + MODULE_TEXT, 0x800, 0, 0))
        strings = self.put(b"\0drv_read\0")
        symtab = struct.pack("<24xIBBHQQ", 1, 2, 0, 1, TEXT + MODULE_TEXT + 0x100, 0x40)
        table = self.put(struct.pack("<QI4xQ", self.put(symtab), 2, strings))
        self.word(addr + 120, table)
        self.link_to(self.put(bytes(16), "modules"), [addr + 8])
        ips, entries = self.orc_table({MODULE_TEXT: (16, 0, "BP", "UNDEFINED", "CALL")})
        self.poke(addr + 128, struct.pack("<I4xQQ", 1, ips, entries))

    def add_orc(self) -> None:
        rules = {
            0x0: (0, 0, "UNDEFINED", "UNDEFINED", "UNDEFINED"),
            0x100: (8, 0, "SP", "UNDEFINED", "CALL"),
            0x104: (16, 0, "SP", "UNDEFINED", "CALL"),
            0x200: (16, 0, "BP", "UNDEFINED", "CALL"),
            0x300: (16, -16, "SP", "PREV_SP", "CALL"),
            0x400: (16, 0, "SP", "UNDEFINED", "CALL"),
            0x600: (0, 0, "UNDEFINED", "UNDEFINED", "END"),
            0x700: (0, 0, "SP", "UNDEFINED", "REGS"),
        }
        ips, entries = self.orc_table(rules)
        self.symbols |= {
            "__start_orc_unwind_ip": ips,
            "__stop_orc_unwind_ip": ips + 4 * len(rules),
            "__start_orc_unwind": entries,
        }

    def orc_table(self, rules: Mapping[int, tuple[int, int, str, str, str]]) -> tuple[int, int]:
        bases: dict[str, int] = {"UNDEFINED": 0, "PREV_SP": 1, "BP": 4, "SP": 5}
        if self.numbers == "7.x":
            bases = {"UNDEFINED": 0, "SP": 3, "BP": 4, "PREV_SP": 8}
        kinds = {"UNDEFINED": 0, "END": 1, "CALL": 2, "REGS": 3}
        ips = self.put(bytes(4 * len(rules)))
        entries = b""
        for number, (at, (sp, bp, sp_reg, bp_reg, kind)) in enumerate(rules.items()):
            place = ips + 4 * number
            self.poke(place, struct.pack("<i", TEXT + at - place))
            if self.numbers == "6.1":
                old = {"CALL": 0, "REGS": 1, "END": 4, "UNDEFINED": 4}
                last = old[kind]
            else:
                last = kinds[kind]
            entries += struct.pack("<hhBB", sp, bp, bases[sp_reg] | bases[bp_reg] << 4, last)
        return ips, self.put(entries)

    # --- the rest --------------------------------------------------------------------------

    def add_counters(self) -> None:
        self.put(struct.pack("<Q", 1000), "_totalram_pages")
        self.put(struct.pack("<Q", 600), "vm_zone_stat")
        self.put(struct.pack("<qq", 20, -3), "vm_node_stat")
        self.put(
            struct.pack("<QQQ", 0x1000000, 0x100FFFF, self.put(b"Crash kernel\0")), "crashk_res"
        )
        self.put(struct.pack("<Q", self.put(struct.pack("<QQ", 0x5000, 5))), "kexec_crash_image")

    @property
    def named(self) -> dict[str, int]:
        """The symbols in kallsyms."""
        return self.symbols

    def add_kallsyms(self) -> None:
        """Each byte is its own token, except for one that stands for more."""
        base = TEXT
        names = sorted(self.named.items(), key=lambda pair: pair[1])
        tokens = [bytes([number]) for number in range(256)]
        tokens[0], tokens[1] = b"", b"orc_unwind"
        index, table = [], b""
        for token in tokens:
            index.append(len(table))
            table += token + b"\0"
        raws = [b"T" + name.encode().replace(b"orc_unwind", b"\x01") for name, _ in names]
        packed = b"".join(bytes([len(raw)]) + raw for raw in raws)
        count = len(names)
        if self.unnamed:
            self.memory.symbol("_stext", TEXT)
            addresses = [addr for _, addr in names]
            self.put(unnamed_tables(self.unnamed, raws, addresses, table, index))
            return
        place = {"kallsyms_names": self.put(packed)}
        place["kallsyms_token_table"] = self.put(table)
        place["kallsyms_token_index"] = self.put(struct.pack("<256H", *index))
        place["kallsyms_num_syms"] = self.put(struct.pack("<I", count))
        place["kallsyms_offsets"] = offsets = self.put(bytes(4 * count))
        for number, (_, addr) in enumerate(names):
            value = {
                "per-cpu": base - 1 - addr,
                "base": addr - base,
                "entry": addr - (offsets + 4 * number),
            }[self.rules]
            self.poke(offsets + 4 * number, struct.pack("<i", value))
        if self.rules != "entry":
            place["kallsyms_relative_base"] = self.put(struct.pack("<Q", base))
        for name, addr in (place | {"_stext": TEXT}).items():
            self.memory.symbol(name, addr)

    # --- the file --------------------------------------------------------------------------

    @cached_property
    def notes(self) -> bytes:
        """CPU 0 halted in user mode; CPU 1 in vpanic, called by panic, called by the module, in a
        page fault of sys_wait."""
        return prstatus(0, 0x401000, 0x7FFF0000, 0, 0x33) + prstatus(
            1, TEXT + self.panicked_at, self.panic_stack(), self.stack_bp, 0x10
        )

    def panic_stack(self) -> int:
        """vpanic's caller is found by rbp, drv_read's by the rbp that panic saved."""
        regs = [0] * 21
        regs[4] = 0x1234
        inner = self.put(bytes(8 * 4), align=16)
        regs[16], regs[17], regs[19] = TEXT + 0x505, self.interrupted_cs, inner
        self.word(inner, 0xAAAA)
        self.word(inner + 8, TEXT + 0x610)
        self.put(struct.pack("<QQ", TEXT + 0x510, 0), align=16)  # of an older call
        words = [0, TEXT + 0x310, 0x77, TEXT + MODULE_TEXT + 0x110, 0, TEXT + 0x710, *regs]
        sp = self.put(struct.pack(f"<{len(words)}q", *(signed(word) for word in words)), align=16)
        self.word(sp + 16, sp + 32)
        self.stack_bp = sp
        return sp - 0x40

    def elf(self) -> bytes:
        notes = self.notes
        return elf(self.memory, notes=notes + self.memory.note)


def unnamed_tables(
    form: Unnamed, raws: list[bytes], addresses: list[int], table: bytes, index: list[int]
) -> bytes:
    """kallsyms as before 6.0 (scripts/kallsyms.c: write_src)."""
    size, marker, order = FORMS[form]
    packed = [bytes([len(raw)]) + raw for raw in raws]
    starts = [sum(map(len, packed[:at])) for at in range(0, len(packed), 256)]
    base = struct.pack("<Q", TEXT) if size == 4 else b""
    places = [addr if size == 8 else TEXT - 1 - addr & 0xFFFFFFFF for addr in addresses]
    parts = (
        b"".join(place.to_bytes(size, "little") for place in places),
        base,
        struct.pack("<Q", len(raws)),
        b"".join(packed),
        b"".join(start.to_bytes(marker, "little") for start in starts),
        b"\xaa" * (order * len(raws)),
        table,
        struct.pack("<256H", *index),
    )
    return b"".join(part.ljust(-(-len(part) // 8) * 8, b"\0") for part in parts)


def signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


def prstatus(pid: int, ip: int, sp: int, bp: int, cs: int) -> bytes:
    """One note with these registers."""
    regs = [0] * 27
    regs[4], regs[16], regs[17], regs[19] = bp, ip, cs, sp
    desc = struct.pack("<32xI76x27Q", pid, *regs).ljust(336, b"\0")
    return Note(CORE, 1, desc).encoded
