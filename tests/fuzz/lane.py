"""Runs every target under atheris for a bounded time; scripts/fuzz starts it.

The corpus is kept in the cache, so that the next run continues where this one ended. An input that
breaks a target is kept too, and printed; then the exit status is 3.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.seeds import SEEDS
from tests.fuzz.targets import SECONDS

FOUND = 3
MEMORY_MIB = 1024
"""Limit for resident memory; atheris and pykexec alone need some 150."""
LONGEST = 64 << 10
EXECUTIONS = re.compile(r"stat::number_of_executed_units: (\d+)")
COVERAGE = re.compile(r"cov: (\d+)")


@dataclass(frozen=True)
class Ran:
    """The run of one target."""

    name: str
    executions: int
    coverage: int
    findings: tuple[Path, ...]
    log: Path


def ran(name: str, cache: Path, seconds: int) -> Ran:
    corpus, findings = cache / name / "corpus", cache / name / "findings"
    for folder in (corpus, findings):
        folder.mkdir(parents=True, exist_ok=True)
    for data in SEEDS[name]():
        (corpus / hashlib.sha1(data).hexdigest()).write_bytes(data)
    before = set(findings.iterdir())
    log = cache / name / "log"
    with log.open("wb") as out:
        ended = subprocess.run(
            [
                sys.executable,
                "-m",
                "tests.fuzz.one",
                name,
                f"-max_total_time={seconds}",
                f"-timeout={2 * SECONDS}",
                f"-rss_limit_mb={MEMORY_MIB}",
                f"-max_len={LONGEST}",
                f"-artifact_prefix={findings}/",
                "-print_final_stats=1",
                str(corpus),
            ],
            stdout=out,
            stderr=subprocess.STDOUT,
            check=False,
        )
    text = log.read_text(errors="replace")
    counts = [int(found) for found in EXECUTIONS.findall(text)]
    if not counts:
        raise SystemExit(f"{name}: did not run, see {log}")
    new = tuple(sorted(set(findings.iterdir()) - before))
    if ended.returncode and not new:
        raise SystemExit(f"{name}: ended with {ended.returncode}, see {log}")
    coverage = max(map(int, COVERAGE.findall(text)), default=0)
    return Ran(name, counts[-1], coverage, new, log)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description="parsers under atheris")
    parser.add_argument("--seconds", type=int, default=30, help="for each target (default 30)")
    parser.add_argument("--cache", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="all without one")
    args = parser.parse_args()
    if unknown := set(args.targets) - set(SEEDS):
        parser.error(f"no target {min(unknown)!r}; there are {', '.join(SEEDS)}")
    found = False
    print(f"{'target':16}  {'executions':>10}  {'branches':>8}", flush=True)
    for name in args.targets or SEEDS:
        turn = ran(name, args.cache, args.seconds)
        print(f"{name:16}  {turn.executions:10}  {turn.coverage:8}", flush=True)
        for path in turn.findings:
            found = True
            print(f"  not survived: {path}, how: {turn.log}", flush=True)
    return FOUND if found else 0


if __name__ == "__main__":
    sys.exit(main())
