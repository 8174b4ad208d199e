"""Documents of a load, as JSON, field by field."""

from __future__ import annotations

from typing import Any

SHA = "ab" * 32


def segment(name: str, mem: int, memsz: int, sha256: str | None = None) -> dict[str, Any]:
    return {
        "no": 0, "name": name, "source": "built", "bufsz": 1 if sha256 else 0,
        "mem": hex(mem), "memsz": memsz, "sha256": sha256, "why": "",
    }  # fmt: skip


def plan(*segments: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "schema": "pykexec.plan/1",
        "backend": "simulated",
        "image": "crash-by-normal",
        "mode": "flag",
        "state": "requested",
        "entry": "0x1000",
        "flags": ["KEXEC_CRASH_BY_NORMAL"],
        "kernel": {"type": "bzImage64", "version": None, "sha256": SHA},
        "cmdline": "quiet",
        "cmdline_words": [{"text": "quiet", "origin": "--append", "dropped": None}],
        "console": {"port": "0x3f8", "why": "the running kernel's"},
        "window": {"start": "0x1000", "end": "0x9000"},
        "segments": list(segments),
        "memory_map": [{"start": "0x0", "end": "0x9000", "type": "System RAM"}],
        "next_memory_map": [],
        "reservation": [],
        "checks": [{"rule": "overlap", "ok": True, "detail": "no two segments overlap"}],
    } | fields
