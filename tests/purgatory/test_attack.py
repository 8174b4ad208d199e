"""The stub under attack: complete jobs as encoded by the loader are executed, with a bit changed
anywhere, with lists of wrong lengths, in memory above 4 GiB."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

import pytest

pytest.importorskip("unicorn", reason="unicorn is not installed: the stub cannot be executed")

from hypothesis import given, settings
from hypothesis import strategies as st

from pykexec.memory.ranges import PhysRange
from pykexec.placement.console import StubConsole
from pykexec.placement.x86.stub import X86StubJob, stub_memsz, tables_offset
from pykexec.purgatory import (
    EXCHANGE_SIZE,
    PARAMS_OFFSET,
    REGION_SIZE,
    BadExchange,
    Exchange,
    Region,
    parse_params,
    sha256,
)

from .emulated import BOOT_PARAMS, COM1, ENTRY, NOT_MAPPED, STUB, End, Pc
from .test_stub import HIGH, LOW, noise

PAGE = 4096
N_REGIONS, N_EXCHANGES = PARAMS_OFFSET + 32, PARAMS_OFFSET + 36
TABLES_SHA256 = PARAMS_OFFSET + 40
LOW_ARENA, HIGH_ARENA = LOW, HIGH + 0x80000
SLOTS = tuple(base + PAGE * n for base in (LOW_ARENA, HIGH_ARENA) for n in range(16))
"""Pages below and above 4 GiB that a job may use."""


@dataclass(frozen=True)
class Attack:
    """A job, the bytes of its stage, and the address of its stub."""

    job: X86StubJob
    staged: tuple[tuple[int, bytes], ...]
    at: int = STUB

    @property
    def tables(self) -> int:
        job = self.job
        size = len(job.regions) * REGION_SIZE + len(job.exchanges) * EXCHANGE_SIZE
        return self.at + tables_offset(size)

    def into(self, pc: Pc) -> Pc:
        for addr, contents in self.staged:
            pc.write(addr, contents)
        pc.write(self.at, self.job.encode(self.at))
        return pc

    def rewrite(self, pc: Pc, addr: int, data: bytes) -> None:
        """Change the tables, and their digest too, as an attacker who knows the stub or a faulty
        loader would."""
        pc.write(addr, data)
        params = parse_params(pc.read(self.at, PAGE))
        records = pc.read(self.tables, params.tables_size)
        pc.write(self.at + TABLES_SHA256, sha256(records))

    def ends(self, pc: Pc) -> End:
        end = pc.run(self.at)
        assert pc.own_writes == [], "the stub writes to its own code page"
        return end


def job_of(
    regions: list[tuple[int, bytes]], exchanges: list[tuple[int, int, int]], at: int = STUB
) -> Attack:
    job = X86StubJob(
        console=StubConsole(COM1, "test"),
        argument=BOOT_PARAMS,
        entry=ENTRY,
        regions=tuple(Region.of(addr, data) for addr, data in regions),
        exchanges=tuple(Exchange(*item) for item in exchanges),
    )
    return Attack(job, tuple(regions), at)


@st.composite
def jobs(draw: st.DrawFn) -> Attack:
    """Up to eight regions and six exchanges of pages, above and below 4 GiB; the pages of a region
    may be in an exchange, and mostly are."""
    slots = draw(st.permutations(SLOTS))
    count = draw(st.integers(0, 6))
    pairs = list(zip(slots[:count], slots[count : 2 * count], strict=True))
    digested = draw(st.lists(st.sampled_from(slots[: 2 * count + 4]), max_size=8, unique=True))
    regions = []
    for number, slot in enumerate(digested):
        offset = draw(st.integers(0, 200))
        regions.append((slot + offset, noise(draw(st.integers(1, 700)), number)))
    at = draw(st.sampled_from([STUB, 0x1000, HIGH + 0x200000]))
    return job_of(regions, [(dest, source, PAGE) for dest, source in pairs], at)


def memory(pc: Pc) -> bytes:
    return pc.read(LOW_ARENA, 16 * PAGE) + pc.read(HIGH_ARENA, 16 * PAGE)


def exchanged(before: bytes, attack: Attack) -> bytes:
    """The contents of the arenas when the job is done."""
    pages = {slot: before[n * PAGE : n * PAGE + PAGE] for n, slot in enumerate(SLOTS)}
    for item in attack.job.exchanges:
        pages[item.dest], pages[item.source] = pages[item.source], pages[item.dest]
    return b"".join(pages[slot] for slot in SLOTS)


@settings(max_examples=25)
@given(jobs())
def test_any_whole_job_is_done(attack: Attack) -> None:
    pc = attack.into(Pc())
    before = memory(pc)
    assert attack.ends(pc) is End.STARTED
    assert memory(pc) == exchanged(before, attack)
    assert pc.register("RSI") == BOOT_PARAMS


@settings(max_examples=40)
@given(jobs().filter(lambda attack: attack.staged), st.data())
def test_no_job_with_a_bit_changed_is_started(attack: Attack, data: st.DataObject) -> None:
    """In a region, or in the tables: nothing is started, and nothing has been moved."""
    pc = attack.into(Pc())
    size = len(attack.job.regions) * REGION_SIZE + len(attack.job.exchanges) * EXCHANGE_SIZE
    spans = [*((addr, len(held)) for addr, held in attack.staged), (attack.tables, size)]
    start, length = data.draw(st.sampled_from(spans))
    addr = start + data.draw(st.integers(0, length - 1))
    pc.write(addr, bytes([pc.read(addr, 1)[0] ^ 1 << data.draw(st.integers(0, 7))]))
    before = memory(pc)
    assert attack.ends(pc) is End.HALTED
    assert memory(pc) == before
    assert "does not match" in pc.text or "do not match" in pc.text
    assert "starting" not in pc.text


@pytest.mark.parametrize("number", range(12))
def test_a_changed_digest_names_its_region(number: int) -> None:
    """Even in tables that are valid by themselves."""
    regions = [(SLOTS[n * 2] + n, noise(100 + n, n)) for n in range(12)]
    attack = job_of(regions, [(SLOTS[1], SLOTS[31], PAGE)])
    pc = attack.into(Pc())
    at = attack.tables + number * REGION_SIZE + 16 + number * 2
    attack.rewrite(pc, at, bytes([pc.read(at, 1)[0] ^ 0x80]))
    before = memory(pc)
    assert attack.ends(pc) is End.HALTED
    assert f"region {number} at {regions[number][0]:#x} does not match" in pc.text
    assert memory(pc) == before


WHOLE = job_of(
    [(SLOTS[0], noise(300, 1)), (SLOTS[17] + 8, noise(300, 2))],
    [(SLOTS[2], SLOTS[18], PAGE), (SLOTS[3], SLOTS[19], PAGE)],
)


@pytest.mark.parametrize(("field", "count"), [(N_REGIONS, 1), (N_REGIONS, 3), (N_EXCHANGES, 1)])
def test_a_list_that_ends_early_or_late_is_not_used(field: int, count: int) -> None:
    pc = WHOLE.into(Pc())
    pc.write(STUB + field, struct.pack("<I", count))
    assert WHOLE.ends(pc) is End.HALTED
    assert "tables do not match" in pc.text


@pytest.mark.parametrize("kept", [0, 1])
def test_a_region_list_that_ends_in_zeros_starts_nothing(kept: int) -> None:
    """A record of zeros is a digest that nothing matches, not the end of the list."""
    pc = WHOLE.into(Pc())
    WHOLE.rewrite(pc, WHOLE.tables + kept * REGION_SIZE, bytes(REGION_SIZE))
    assert WHOLE.ends(pc) is End.HALTED
    assert f"region {kept} at 0x0 does not match" in pc.text


def test_an_exchange_of_nothing_moves_nothing() -> None:
    pc = WHOLE.into(Pc())
    second = WHOLE.tables + 2 * REGION_SIZE + EXCHANGE_SIZE
    WHOLE.rewrite(pc, second, bytes(EXCHANGE_SIZE))
    before = memory(pc)
    assert WHOLE.ends(pc) is End.STARTED
    first = replace(WHOLE.job, exchanges=WHOLE.job.exchanges[:1])
    assert memory(pc) == exchanged(before, replace(WHOLE, job=first))


@pytest.mark.parametrize("field", [N_REGIONS, N_EXCHANGES])
def test_a_count_beyond_all_memory_ends_in_words(field: int) -> None:
    """The digest runs past mapped memory: an exception, which is reported."""
    pc = WHOLE.into(Pc())
    pc.write(STUB + field, struct.pack("<I", 0xFFFFFF))
    assert WHOLE.ends(pc) is End.HALTED
    assert "exception 14" in pc.text


def test_a_region_that_runs_off_the_memory_ends_in_words() -> None:
    pc = WHOLE.into(Pc())
    addr, size = NOT_MAPPED - 0x1000, 0x2000
    record = struct.pack("<QQ", addr, size) + bytes(32)
    WHOLE.rewrite(pc, WHOLE.tables, record)
    assert WHOLE.ends(pc) is End.HALTED
    assert f"exception 14 at {STUB >> 12:#x}" in pc.text


def test_everything_above_4_gib() -> None:
    """Stub, tables, stage, window, entry and boot_params: no address is truncated to 32 bits."""
    entry, boot_params = HIGH + 0x300200, HIGH + 0x310000
    image = noise(PAGE, 3)
    job = X86StubJob(
        console=StubConsole(COM1, "test"),
        argument=boot_params,
        entry=entry,
        regions=(Region.of(HIGH_ARENA, image),),
        exchanges=(Exchange(HIGH_ARENA + PAGE, HIGH_ARENA, PAGE),),
    )
    attack = Attack(job, ((HIGH_ARENA, image),), HIGH + 0x200000)
    pc = attack.into(Pc())
    assert pc.run(attack.at, entry) is End.STARTED
    assert pc.register("RSI") == boot_params
    assert pc.read(HIGH_ARENA + PAGE, PAGE) == image


# -- what the builder refuses


@st.composite
def overlapping(draw: st.DrawFn) -> list[tuple[int, int, int]]:
    """Exchanges in which one page occurs twice."""
    pages = draw(st.permutations(range(64)))
    count = draw(st.integers(2, 8))
    pairs = [[pages[2 * n], pages[2 * n + 1]] for n in range(count)]
    one, other = draw(st.permutations(range(count)))[:2]
    pairs[one][draw(st.integers(0, 1))] = pairs[other][draw(st.integers(0, 1))]
    return [(LOW + a * PAGE, LOW + b * PAGE, PAGE) for a, b in pairs]


@given(overlapping())
def test_a_page_in_two_exchanges_is_refused(exchanges: list[tuple[int, int, int]]) -> None:
    with pytest.raises(BadExchange, match="overlaps"):
        job_of([], exchanges).job.encode(STUB)


@pytest.mark.parametrize("page", [0, 1, 2])
@pytest.mark.parametrize("side", [0, 1])
def test_the_stub_its_stack_and_its_tables_are_not_exchanged(page: int, side: int) -> None:
    """With so many exchanges that the tables have their own pages."""
    many = [(SLOTS[0] + PAGE * (n + 100), HIGH + PAGE * (n + 100), PAGE) for n in range(200)]
    assert stub_memsz(0, 201) >= 3 * PAGE
    sides = [STUB + page * PAGE, LOW]
    with pytest.raises(BadExchange, match="memory of the stub"):
        job_of([], [*many, (sides[side], sides[1 - side], PAGE)]).job.encode(STUB)


def test_the_page_tables_of_the_reserved_region_are_not_exchanged() -> None:
    region = PhysRange(STUB - 0x8000, STUB + 0x8000)
    job = job_of([], [(LOW, region.start + PAGE, PAGE)]).job
    job.encode(STUB)
    with pytest.raises(BadExchange, match=r"memory of the stub 0xf8000\.\.0x108000 overlaps"):
        replace(job, keep=(region,)).encode(STUB)
