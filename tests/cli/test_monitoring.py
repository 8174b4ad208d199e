"""What `status` tells monitoring systems, judged by a parser of their own."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from pykexec.backends.backend import LoadState, Slot
from pykexec.cli.report.monitoring import Service, judge, metrics_text, plugin_line
from pykexec.cli.report.status import StagedReport, StatusReport
from pykexec.cli.report.target import Target
from tests.backends.kernel.test_record import RECORD
from tests.cli.conftest import Run

HERE = Target("kernel", "this machine")
NOW = 1_800_000_000


def report(crash: LoadState, ours: StagedReport | None = None, unseen: str = "") -> StatusReport:
    slots = {Slot.NORMAL: LoadState.NOT_LOADED, Slot.CRASH: crash}
    return StatusReport(HERE, slots, ours, unseen or None)


def samples(text: str) -> dict[str, float]:
    """By a sample's name, without its labels."""
    families = text_string_to_metric_families(text)
    return {sample.name: sample.value for family in families for sample in family.samples}


ARMED = report(LoadState.LOADED, StagedReport(RECORD, 74))
BROKEN = report(LoadState.LOADED, StagedReport(RECORD, 74, "a digest differs"))
OTHER = replace(RECORD, release="6.1.0", modules=("5.9",))
CASES = {
    "armed": (ARMED, Service.OK),
    "broken": (BROKEN, Service.CRITICAL),
    "nothing": (report(LoadState.NOT_LOADED), Service.CRITICAL),
    "unknown": (report(LoadState.UNKNOWN), Service.UNKNOWN),
    "another program's": (report(LoadState.LOADED), Service.OK),
    "unprivileged": (report(LoadState.LOADED, unseen="only root can verify it"), Service.OK),
    "being changed": (
        replace(report(LoadState.NOT_LOADED, unseen="another pykexec"), changing=True),
        Service.UNKNOWN,
    ),
    "mixed": (report(LoadState.LOADED, StagedReport(OTHER, 74)), Service.WARNING),
}


@pytest.mark.parametrize("name", CASES)
def test_line_and_metrics_agree(name: str) -> None:
    shown, service = CASES[name]
    assert judge(shown).service is service
    line = plugin_line(shown)
    assert re.fullmatch(rf"PYKEXEC {service.name} - [^|\n]+ \| held=[0-9]+B", line)
    values = samples(metrics_text(shown, NOW))
    armed = None if service is Service.UNKNOWN else service <= Service.WARNING
    assert values.get("pykexec_armed") == armed
    checked = None if shown.unseen else NOW
    assert values.get("pykexec_last_check_timestamp_seconds") == checked


def test_what_is_held_and_since_when() -> None:
    values = samples(metrics_text(ARMED, NOW))
    assert values["pykexec_held_bytes"] == 74 << 21
    assert values["pykexec_armed_since_timestamp_seconds"] == RECORD.since
    assert values["pykexec_problem"] == 0
    assert samples(metrics_text(BROKEN, NOW))["pykexec_problem"] == 1


def test_what_is_not_known_has_no_sample() -> None:
    values = samples(metrics_text(report(LoadState.UNKNOWN, unseen="no privilege"), NOW))
    assert not {"pykexec_crash_image_loaded", "pykexec_problem", "pykexec_held_bytes"} & set(values)


def test_any_file_name_is_a_label() -> None:
    name = 'a "b"\\c\n' + os.fsdecode(b"\xff")
    shown = report(LoadState.LOADED, StagedReport(replace(RECORD, kernel=name), 1))
    families = text_string_to_metric_families(metrics_text(shown, NOW))
    labels = [sample.labels for family in families for sample in family.samples if sample.labels]
    assert labels[0]["kernel"] == 'a "b"\\c\n\N{REPLACEMENT CHARACTER}'
    assert "\n" not in plugin_line(shown)


def test_a_file_name_cannot_control_a_terminal() -> None:
    record = replace(RECORD, kernel="vmlinuz\r\x1b[2J|held=0B")
    line = plugin_line(report(LoadState.LOADED, StagedReport(record, 1)))
    assert line.isprintable()
    assert line.count("|") == 1


def test_the_command(run: Run, machine: str, tmp_path: Path) -> None:
    words = ("status", "--machine", machine)
    file = tmp_path / "pykexec.prom"
    assert run(*words, "--textfile", str(file), status=3).stdout.startswith("normal")
    assert samples(file.read_text())["pykexec_armed"] == 0
    assert file.stat().st_mode & 0o777 == 0o644
    assert os.listdir(tmp_path).count("pykexec.prom") == 1
    assert samples(run(*words, "--metrics", status=3).stdout)["pykexec_armed"] == 0
    assert run(*words, "--nagios", status=2).stdout.startswith("PYKEXEC CRITICAL - no crash image")
    assert "exclude each other" in run(*words, "--nagios", "--json", status=2).stdout
    gone = run("status", "--machine", str(tmp_path / "none"), "--nagios", status=3)
    assert gone.stdout.startswith("PYKEXEC UNKNOWN - ")


def test_a_device_is_not_replaced_by_a_file(run: Run, machine: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    words = ("status", "--machine", machine, "--textfile", str(tmp_path / "fifo"))
    assert "fifo: not a regular file" in run(*words, status=3).stderr
    assert (tmp_path / "fifo").is_fifo()


def test_a_file_that_cannot_be_written_does_not_hide_the_verdict(run: Run, machine: str) -> None:
    words = ("status", "--machine", machine, "--textfile", "gone/pykexec.prom")
    result = run(*words, status=3)
    assert result.stdout.startswith("normal")
    assert result.stderr.endswith("warning: gone/pykexec.prom: no such file or directory\n")
    run("load", "bzImage", "--machine", machine)
    run(*words, status=1)
