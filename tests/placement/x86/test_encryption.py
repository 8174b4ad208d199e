"""Detects encrypted memory from a machine's facts, and that nothing is armed there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pykexec.backends.kernel.modes import NoMode, choose_modes
from pykexec.cli.terms import PYKEXEC
from pykexec.flows.checked_plan import decide
from pykexec.flows.doctor import Level, diagnose
from pykexec.images.identify import identify
from pykexec.machine import Machine, Unknown
from pykexec.memory.ranges import PhysRange
from pykexec.placement.encryption import ConfidentialGuest, Encryption
from pykexec.placement.request import ImageKind, LoadRequest, Mode
from pykexec.placement.x86.encryption import memory_encryption
from tests.builders import make_bzimage, make_machine, write

RESERVED = make_machine(crash_kernel=[PhysRange(0x38000000, 0x38010000)])
TDX, SEV = Encryption("Intel TDX", guest=True), Encryption("AMD SEV", guest=True)
SEV_ES = Encryption("AMD SEV-ES", guest=True)
SNP = Encryption("AMD SEV-SNP", guest=True)
SME = Encryption("AMD SME", guest=False)
NO_FILE = Unknown("no such file")
C_BIT = 1 << 51


def having(flags: str, **facts: Any) -> Machine:
    return replace(RESERVED, cpu_flags=frozenset(flags.split()), **facts)


MACHINES = {
    "plain": (having("lm svm"), None),
    "nothing is known": (replace(RESERVED, cpu_flags=NO_FILE), NO_FILE),
    "TDX guest": (having("lm hypervisor tdx_guest"), TDX),
    "TDX guest by its flag alone": (having("lm tdx_guest"), TDX),
    "host that can start TDX guests": (having("lm vmx tdx_host_platform"), None),
    "SEV guest": (having("lm hypervisor sev"), SEV),
    "SEV-ES guest": (having("lm hypervisor sev sev_es"), SEV_ES),
    "SEV-SNP guest": (having("lm hypervisor sev sev_es sev_snp"), SNP),
    "SEV-SNP guest that has svm": (having("lm hypervisor svm sev sev_es sev_snp"), SNP),
    "SEV-ES guest by its flag alone": (having("lm sev_es"), SEV_ES),
    "SEV guest whose flags are hidden": (having("lm hypervisor", sme_mask=C_BIT), SEV),
    "SEV-SNP guest by the kernel's folder": (having("lm hypervisor", snp_guest=True), SNP),
    "SEV-SNP guest with unknown flags": (
        replace(RESERVED, cpu_flags=NO_FILE, snp_guest=True),
        SNP,
    ),
    "EPYC host": (having("lm svm sev sev_es sev_snp"), None),
    "EPYC host, as VMCOREINFO says": (having("lm svm sme sev sev_es", sme_mask=0), None),
    "EPYC host without svm": (having("lm sev sev_es sev_snp", sme_mask=0), None),
    "virtual machine that starts SEV guests": (
        having("lm hypervisor svm sev sev_es", sme_mask=0),
        None,
    ),
    "EPYC host with SME on": (
        having("lm svm sme sev sev_es sev_snp", cmdline="mem_encrypt=off mem_encrypt=on"),
        SME,
    ),
    "SME on, as VMCOREINFO says": (having("lm svm sme sev", sme_mask=C_BIT), SME),
    "SME off by the command line, on as VMCOREINFO says": (
        having("lm svm sme", sme_mask=C_BIT, cmdline="mem_encrypt=off"),
        SME,
    ),
    "SME, unknown whether on": (having("lm svm sme", cmdline="", config=NO_FILE), NO_FILE),
}


@pytest.mark.parametrize(("machine", "expected"), MACHINES.values(), ids=MACHINES)
def test_what_encrypts(machine: Machine, expected: Encryption | Unknown | None) -> None:
    assert memory_encryption(machine) == expected


@pytest.mark.parametrize(("machine", "expected"), MACHINES.values(), ids=MACHINES)
@pytest.mark.parametrize("mode", [Mode.IN_PLACE, Mode.STUB_SWAP, Mode.KERNEL_SWAP])
def test_no_crash_by_normal_is_armed_on_encrypted_memory(
    machine: Machine, expected: Encryption | Unknown | None, mode: Mode
) -> None:
    ready = replace(
        machine,
        release="6.1.0",
        architecture="x86_64",
        symbols_hidden=False,
        symbols=frozenset({"x"}),
    )
    if not isinstance(expected, Encryption):
        assert choose_modes(ready, mode).modes == (mode,)
        return
    with pytest.raises(NoMode, match=expected.technology) as refused:
        choose_modes(ready, mode)
    assert refused.value.remedy == expected.remedy


@pytest.mark.parametrize(("machine", "expected"), MACHINES.values(), ids=MACHINES)
@pytest.mark.parametrize("kind", [ImageKind.NORMAL, ImageKind.CRASH])
def test_no_stub_is_loaded_into_a_confidential_guest(
    tmp_path: Path, machine: Machine, expected: Encryption | Unknown | None, kind: ImageKind
) -> None:
    """The purgatory of a normal load is the stub too; SME does not concern it."""
    image = identify(write(tmp_path, "vmlinuz", make_bzimage()))
    big = replace(
        machine, crash_kernel=make_machine(crash_kernel=[PhysRange(1 << 29, 3 << 28)]).crash_kernel
    )
    if not isinstance(expected, Encryption) or not expected.guest:
        assert decide(image, big, LoadRequest(kind)).plan.entry
        return
    with pytest.raises(ConfidentialGuest, match=expected.technology) as refused:
        decide(image, big, LoadRequest(kind))
    assert "--syscall file" in str(refused.value.hint_in(PYKEXEC))


@pytest.mark.parametrize(("machine", "expected"), MACHINES.values(), ids=MACHINES)
def test_doctor_says_the_same(machine: Machine, expected: Encryption | Unknown | None) -> None:
    (row,) = [row for row in diagnose(machine) if row.name == "memory encryption"]
    if isinstance(expected, Encryption):
        assert (row.level, row.evidence) == (Level.FAIL, expected.why_no_dump)
    else:
        assert row.level is (Level.UNKNOWN if isinstance(expected, Unknown) else Level.OK)
