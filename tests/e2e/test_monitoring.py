"""conf/prometheus-rules.yml and conf/grafana-dashboard.json, against a real node and promtool."""

import json
import re
import shutil
import subprocess

import pytest

from world import ROOT

pytestmark = pytest.mark.plain  # no node runs here

RULES = ROOT / "conf/prometheus-rules.yml"
RULES_TEST = ROOT / "tests/prometheus/rules_test.yml"
DASHBOARD = ROOT / "conf/grafana-dashboard.json"
OPERATIONS = ROOT / "docs/operations.md"
LIMIT_S = 120  # promtool needs several seconds of a core to test the rules


def promtool(*arguments):
    assert shutil.which("promtool"), "promtool is not there: run scripts/deps"
    return subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True,
                          timeout=LIMIT_S, check=False)


@pytest.fixture(scope="module")
def samples(module_world):
    """[(sample name, labels)] of a node that just runs."""
    node = module_world.node(module_world.redis())
    return [(name, dict(labels)) for name, labels in node.metrics()]


def alerts():
    return re.findall(r"^ *- alert: (\w+)$", RULES.read_text(), re.M)


def panels():
    return [p for p in json.loads(DASHBOARD.read_text())["panels"] if p["type"] != "row"]


def expressions():
    """{where it stands: PromQL}"""
    found = {f"rule {number}": text for number, text in enumerate(re.findall(
        r"^ *expr: (?:>-\n)?((?:.|\n)*?)(?=\n *(?:for|labels):)", RULES.read_text(), re.M))}
    for panel in panels():
        for target in panel["targets"]:
            found[f"panel {panel['title']} {target['refId']}"] = target["expr"]
    return found


METRIC = re.compile(r"\b((?:tickcast|process)_[a-z0-9_]+)\b(?:\{([^}]*)\})?")
MATCHER = re.compile(r'([a-z_]+)(=~|=)"([^"]*)"')
SCRAPED = {"job", "instance"}  # what Prometheus adds


def test_the_lists_are_not_empty():
    assert len(alerts()) >= 20 and len(panels()) >= 30
    assert len(expressions()) >= len(alerts()) + len(panels())


@pytest.mark.parametrize("where", expressions())
def test_what_is_asked_for_exists(samples, where):
    """Every metric, and every value of a label, is one that a node shows."""
    metrics = METRIC.findall(expressions()[where])
    assert metrics or where == "rule 0" and "up{" in expressions()[where]
    for name, matchers in metrics:
        shown = [labels for n, labels in samples if n == name]
        assert shown, f"{name} is no metric"
        for label, how, value in MATCHER.findall(matchers):
            if label in SCRAPED:
                continue
            for wanted in value.split("|") if how == "=~" else [value]:
                assert any(labels.get(label) == wanted for labels in shown), (name, label, wanted)


def test_next_to_nothing_is_left_out_of_the_dashboard(samples):
    """Whoever adds metrics gives them a place, at the latest the ninth."""
    shown = {name for panel in panels() for target in panel["targets"]
             for name, _ in METRIC.findall(target["expr"])}
    ours = {re.sub("_(count|sum)$", "_bucket", name) for name, _ in samples
            if name.startswith("tickcast_")}
    assert len(ours - shown) < 9, sorted(ours - shown)


def test_promtool_takes_the_rules():
    done = promtool("check", "rules", RULES)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(alerts())} rules found" in done.stdout


@pytest.mark.limit(LIMIT_S)
def test_each_alert_fires_when_it_should_and_only_then():
    done = promtool("test", "rules", RULES_TEST)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.limit(LIMIT_S)
def test_a_wrong_rule_would_be_found(tmp_path):
    """The tests of the rules can fail: take the threshold away from one."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "tests/prometheus").mkdir(parents=True)
    text = RULES.read_text().replace("tickcast_connections_limit > 0.9", "tickcast_connections_limit > 0.1")
    assert text != RULES.read_text()
    (tmp_path / "conf" / RULES.name).write_text(text)
    shutil.copy(RULES_TEST, tmp_path / "tests/prometheus")
    done = promtool("test", "rules", tmp_path / "tests/prometheus" / RULES_TEST.name)
    assert done.returncode != 0 and "TickcastConnectionsNearLimit" in done.stdout + done.stderr


@pytest.mark.parametrize("alert", alerts())
def test_each_alert_is_tested_and_has_its_page(alert):
    assert f'alertname="{alert}"' in RULES_TEST.read_text()
    assert f"\n#### {alert}\n" in OPERATIONS.read_text()
    rule = RULES.read_text().split(f"- alert: {alert}\n")[1].split("- alert:")[0]
    assert f"runbook: docs/operations.md#{alert.lower()}\n" in rule
    assert "summary: " in rule and "description: " in rule and "severity: " in rule


def test_no_page_without_an_alert():
    pages = re.findall(r"^#### (Tickcast\w+)$", OPERATIONS.read_text(), re.M)
    assert sorted(pages) == sorted(alerts())


def test_the_dashboard_can_be_imported_anywhere():
    """No data source or node of ours in it: both are variables, and every panel uses them."""
    board = json.loads(DASHBOARD.read_text())
    variables = {v["name"]: v for v in board["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    assert "tickcast_info" in variables["node"]["definition"]
    assert variables["node"]["multi"] and variables["node"]["includeAll"]
    assert "$node" in variables["instance"]["definition"]
    ids = [p["id"] for p in board["panels"]]
    assert len(ids) == len(set(ids))
    for panel in panels():
        assert panel["title"] and panel["description"]
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == panel["datasource"]["uid"] == "${datasource}"
            assert target["expr"].count("{") == target["expr"].count('instance=~"$instance"')


def test_no_panel_lies_on_another():
    cells = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        at = panel["gridPos"]
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert x < 24 and (x, y) not in cells, panel["title"]
                cells.add((x, y))
