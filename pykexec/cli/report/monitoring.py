"""The results of `status` and `saved` for monitoring systems: OpenMetrics text, and the line of a
Nagios plugin."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import TYPE_CHECKING

from pykexec.abi.hugetlb import HUGE_PAGE_SIZE
from pykexec.backends.backend import LoadState, Slot
from pykexec.cli.out.openmetrics import Gauge, exposition
from pykexec.errors import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pykexec.cli.report.status import StatusReport
    from pykexec.documents.saved import ListedDump


class Service(IntEnum):
    """A service's state; the value is the exit status of the plugin (Monitoring Plugins
    Development Guidelines, "Plugin Return Codes")."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """The state of the crash dump, and the reason in one sentence."""

    service: Service
    reason: str


def judge(report: StatusReport) -> Verdict:
    """Whether a panic now would make a dump, as far as this user can see."""
    crash = report.slots[Slot.CRASH]
    ours = report.staged
    if ours and ours.problem:
        return Verdict(Service.CRITICAL, ours.problem)
    if crash is LoadState.UNKNOWN:
        why = report.unknown.get(Slot.CRASH)
        reason = "cannot read whether a crash image is loaded"
        return Verdict(Service.UNKNOWN, f"{reason}: {why}" if why else reason)
    if crash is LoadState.NOT_LOADED and report.changing:
        return Verdict(Service.UNKNOWN, f"no crash image is loaded ({report.unseen})")
    if crash is LoadState.NOT_LOADED:
        return Verdict(Service.CRITICAL, "no crash image is loaded")
    if report.unseen:
        return Verdict(Service.OK, f"a crash image is loaded ({report.unseen})")
    if ours is None:
        return Verdict(Service.OK, "a crash image is loaded, not by pykexec's crash by normal")
    if ours.record.modules_match is False:
        return Verdict(Service.WARNING, "kernel and initrd are of different releases")
    return Verdict(Service.OK, f"armed, mode {ours.record.mode}, kernel {ours.record.kernel}")


def plugin_line(report: StatusReport) -> str:
    """STATE - reason | performance data (held memory in bytes)."""
    verdict = judge(report)
    reason = printable(verdict.reason).replace("|", "/")
    return f"PYKEXEC {verdict.service.name} - {reason} | held={_held(report)}B"


def _held(report: StatusReport) -> int:
    """Bytes of huge pages that pykexec holds while armed."""
    return report.staged.huge_pages * HUGE_PAGE_SIZE if report.staged else 0


def metrics_text(report: StatusReport, now: int) -> str:
    """OpenMetrics text (also valid Prometheus text format 0.0.4, for node_exporter's textfile
    collector); `now` in seconds since the epoch."""
    return exposition(_gauges(report, now))


def _gauges(report: StatusReport, now: int) -> Iterator[Gauge]:
    """Values for alerts and graphs."""
    for slot, state in report.slots.items():
        loaded = None if state is LoadState.UNKNOWN else float(state is LoadState.LOADED)
        yield Gauge(f"pykexec_{slot}_image_loaded", f"Whether a {slot} image is loaded.", loaded)
    service = judge(report).service
    armed = None if service is Service.UNKNOWN else float(service is not Service.CRITICAL)
    yield Gauge("pykexec_armed", "Whether a panic now would start a capture kernel.", armed)
    ours = report.staged
    if report.unseen is None:
        problem = bool(ours and (ours.problem or ours.record.modules_match is False))
        yield Gauge("pykexec_problem", "Whether a verification found a problem.", float(problem))
        what = "Memory that pykexec holds for the crash image."
        yield Gauge("pykexec_held_bytes", what, float(_held(report)), unit="bytes")
    if ours:
        record = ours.record
        labels = (
            ("mode", str(record.mode)), ("kernel", record.kernel), ("release", record.release or "")
        )  # fmt: skip
        yield Gauge("pykexec_crash_by_normal_info", "How the machine was armed.", 1.0, labels)
        yield Gauge(
            "pykexec_armed_since_timestamp_seconds", "When the machine was armed.",
            float(record.since), unit="seconds",
        )  # fmt: skip
    checked = float(now) if report.unseen is None else None
    yield Gauge(
        "pykexec_last_check_timestamp_seconds", "When the images were verified.", checked,
        unit="seconds",
    )  # fmt: skip


def saved_metrics(dumps: tuple[ListedDump, ...], lost: bool, now: int) -> str:
    """OpenMetrics text about all saved dumps, oldest first, and whether the last crash left none;
    `now` in seconds since the epoch."""
    return exposition(_saved_gauges(dumps, lost, now))


def _saved_gauges(dumps: tuple[ListedDump, ...], lost: bool, now: int) -> Iterator[Gauge]:
    incomplete = sum(not dump.complete for dump in dumps)
    yield Gauge("pykexec_saved_dumps", "Number of saved crash dumps.", len(dumps))
    yield Gauge(
        "pykexec_saved_incomplete_dumps",
        "Number of saved crash dumps that are not complete.",
        incomplete,
    )
    yield Gauge(
        "pykexec_last_saved_timestamp_seconds", "When the last crash dump was saved.",
        max((time for dump in dumps if (time := _saved_at(dump))), default=None), unit="seconds",
    )  # fmt: skip
    last = dumps[-1] if dumps else None
    whole = float(last.complete) if last else None
    yield Gauge("pykexec_last_saved_complete", "Whether the last dump is complete.", whole)
    found = last.status.dump if last and last.status else None
    size = None if found is None else found.size
    yield Gauge(
        "pykexec_last_saved_bytes", "Size of the last dump on the disk.", size, unit="bytes"
    )
    what = "Whether the boot before this one ended in a crash without a dump."
    yield Gauge("pykexec_dump_lost", what, float(lost))
    yield Gauge(
        "pykexec_saved_last_check_timestamp_seconds", "When the saved dumps were listed.",
        float(now), unit="seconds",
    )  # fmt: skip


def _saved_at(dump: ListedDump) -> float | None:
    """Seconds since the epoch; None if its status does not tell."""
    try:
        return datetime.fromisoformat(dump.status.saved).timestamp() if dump.status else None
    except (ValueError, OverflowError):
        return None
