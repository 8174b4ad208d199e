"""The alerts for Prometheus, judged by promtool, and the dashboard for Grafana: what they read is
what `status` and `saved` write."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from pykexec.backends.backend import LoadState
from pykexec.cli.report.monitoring import metrics_text, saved_metrics
from pykexec.cli.report.status import StagedReport
from pykexec.documents.saved import ListedDump
from tests.backends.kernel.test_record import RECORD
from tests.cli.test_monitoring import report
from tests.vm.debian import Unavailable, package_tree
from tests.vm.supplies import TOOLS_SUITE

HERE = Path(__file__).parent
FOLDER = HERE.parents[1] / "monitoring"
RULES = FOLDER / "prometheus-rules.yml"
DASHBOARD = FOLDER / "grafana-dashboard.json"
pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="no rules beside the package")


@pytest.fixture(scope="module")
def promtool() -> Path:
    try:
        tree = package_tree(TOOLS_SUITE, "prometheus", lambda name: False)
    except Unavailable as unavailable:
        pytest.skip(f"no promtool: {unavailable.reason}")
    return tree / "usr/bin/promtool"


def run(*words: str | Path) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_rules_are_valid(promtool: Path) -> None:
    assert "7 rules found" in run(promtool, "check", "rules", "--lint-fatal", RULES)


def test_each_alert_fires_where_it_should(promtool: Path) -> None:
    run(promtool, "test", "rules", HERE / "alerts.test.yml")
    tested = re.findall(r"alertname: (\w+)", (HERE / "alerts.test.yml").read_text())
    assert set(tested) == set(re.findall(r"alert: (\w+)", RULES.read_text()))


@pytest.mark.parametrize("text", ["status", "saved"])
def test_the_metrics_are_what_promtool_accepts(promtool: Path, text: str) -> None:
    done = subprocess.run(
        [promtool, "check", "metrics"], input=texts()[text], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def texts() -> dict[str, str]:
    """What the two commands write, with every metric."""
    shown = report(LoadState.LOADED, StagedReport(RECORD, 74))
    there = ListedDump("name", "folder", False, None, "no status")
    return {"status": metrics_text(shown, 1), "saved": saved_metrics((there,), True, 1)}


WITHOUT_SAMPLE = {"pykexec_last_saved_timestamp_seconds", "pykexec_last_saved_bytes"}
"""A dump without a status has no time and no size."""


def written() -> set[str]:
    text = "".join(texts().values())
    return set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE)) | WITHOUT_SAMPLE


@pytest.mark.parametrize("path", [RULES, DASHBOARD], ids=lambda path: path.name)
def test_only_metrics_that_exist_are_read(path: Path) -> None:
    read = set(re.findall(r"\bpykexec_\w+", path.read_text()))
    assert read
    assert read <= written()


def test_the_dashboard_is_complete() -> None:
    """Grafana's own schema of a dashboard is not published as a file: these are the parts that its
    import needs."""
    board = json.loads(DASHBOARD.read_text())
    assert board["uid"] == "pykexec"
    assert board["schemaVersion"] >= 36
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        assert panel["title"]
        assert panel["description"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert [target["refId"] for target in panel["targets"]]
    variables = {item["name"]: item["type"] for item in board["templating"]["list"]}
    assert variables == {"datasource": "datasource", "instance": "query"}


def test_the_queries_of_the_dashboard_are_valid(promtool: Path, tmp_path: Path) -> None:
    """By promtool, as the expressions of rules."""
    board = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    rules = [
        {"record": f"query:{number}", "expr": query.replace("$instance", ".*")}
        for number, query in enumerate(queries)
    ]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(queries)} rules found" in run(promtool, "check", "rules", file)
