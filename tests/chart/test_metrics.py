"""Metrics as the dashboard and the alerts name them, held to the program."""

import functools
import json
import re
import tempfile
import unittest

import yaml

from rendering import CHART, HERE, NAMES, ROOT, command, one, rendered


# Labels that Prometheus adds to what it scrapes, and those of histograms.
TARGET_LABELS = {"job", "instance", "pod", "le"}


@functools.cache
def metrics():
    """Series name -> its labels, out of the constants of names.rs and their comments ("Labels: a, b.")."""
    if not NAMES.exists():
        raise AssertionError(f"{NAMES.relative_to(ROOT)} is missing: without it nobody knows which metrics there are")
    text = NAMES.read_text()
    labels = dict.fromkeys(re.findall(r'"(tidegate_[a-z0-9_]+)"', text), frozenset())
    for comment, name in re.findall(r'((?:///.*\n)+)pub const \w+: &str =\s*"(tidegate_[a-z0-9_]+)"', text):
        if listed := re.search(r"\bLabels: ([a-z_, ]+)\.", comment.replace("\n/// ", " ")):
            labels[name] = frozenset(listed[1].split(", "))
    if len(labels) < 10 or not any(labels.values()):
        raise AssertionError(f"{NAMES.relative_to(ROOT)} names {len(labels)} metrics; has the form of its lines changed?")
    for name in list(labels):
        if name.endswith("_seconds") and not name.endswith("_timestamp_seconds"):
            labels |= {f"{name}{suffix}": labels[name] for suffix in ("_bucket", "_sum", "_count")}
    return labels


def label_names(expression):
    """Labels that a PromQL expression names, in its selectors and in its by, without, on, ignoring and group_ clauses."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', '""', expression)
    matchers = re.findall(r"\{([^}]*)\}", bare)
    lists = re.findall(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)", bare)
    found = {m for text in matchers for m in re.findall(r"([A-Za-z_]\w*)\s*(?:=~|!~|!=|=)", text)}
    return found | {label.strip() for text in lists for label in text.split(",") if label.strip()}


def grouped_labels(expression):
    return {label.strip() for text in re.findall(r"\bby\s*\(([^)]*)\)", expression) for label in text.split(",")}


def not_in_the_program(words):
    """Those of the words that are no string literal of the sources."""
    source = "".join(p.read_text() for name in ("src", "crates") for p in sorted((ROOT / name).rglob("*.rs")))
    return [word for word in sorted(words) if f'"{word}"' not in source]


def dashboard():
    return json.loads((ROOT / "dashboards/tidegate.json").read_text())


def dashboard_targets():
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target


def alert_rules():
    return [rule for group in yaml.safe_load((CHART / "files/alerts.yaml").read_text())["groups"] for rule in group["rules"]]


def expressions():
    for title, target in dashboard_targets():
        yield f"panel {title}", target["expr"]
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            yield f"variable {variable['name']}", variable["definition"]
    for rule in alert_rules():
        yield f"alert {rule['alert']}", rule["expr"]


class MetricNames(unittest.TestCase):
    def test_dashboard_and_alerts_name_only_what_there_is(self):
        there, seen = metrics(), 0
        for where, expression in expressions():
            with self.subTest(where):
                used = set(re.findall(r"\btidegate_\w+", expression))
                self.assertTrue(used, expression)
                self.assertEqual(used - there.keys(), set(), "metrics that crates/telemetry/src/names.rs does not have")
                labels = TARGET_LABELS.union(*(there.get(name, ()) for name in used))
                self.assertEqual(label_names(expression) - labels, set(), "labels that these metrics do not have")
                seen += 1
        self.assertGreater(seen, 30)

    def test_labels_are_those_of_the_program(self):
        self.assertEqual(not_in_the_program(set().union(*metrics().values())), [])

    def test_reasons_and_causes_are_those_of_the_program(self):
        values = {
            value
            for _, expression in expressions()
            for matched in re.findall(r'\b(?:reason|cause)(?:=~|!~|!=|=)"([^"$]+)"', expression)
            for value in matched.split("|")
        }
        self.assertTrue(values)
        self.assertEqual(not_in_the_program(values), [], "no metric has a label with these values")

    def test_texts_use_labels_that_are_left(self):
        for title, target in dashboard_targets():
            with self.subTest(title):
                self.assertLessEqual(set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])), grouped_labels(target["expr"]))
        for rule in alert_rules():
            text = " ".join(rule["annotations"].values())
            self.assertLessEqual(set(re.findall(r"\$labels\.(\w+)", text)), grouped_labels(rule["expr"]), rule["alert"])

    def test_label_names_are_found(self):
        found = label_names('sum by (a, b) (x{c="d=e", f=~"g"}) / on (h) group_left (i) y{j!=""}')
        self.assertEqual(found, {"a", "b", "c", "f", "h", "i", "j"})


class Dashboard(unittest.TestCase):
    def test_its_form(self):
        board = dashboard()
        self.assertGreaterEqual(board["schemaVersion"], 41)
        self.assertIsNone(board["id"])
        ids = [panel["id"] for panel in board["panels"]]
        self.assertEqual(len(ids), len(set(ids)))
        self.assertEqual([v["name"] for v in board["templating"]["list"]], ["datasource", "namespace", "route"])
        for panel in board["panels"]:
            if panel["type"] != "row":
                self.assertEqual(panel["datasource"]["uid"], "${datasource}", panel["title"])
                for target in panel["targets"]:
                    self.assertEqual(target["datasource"]["uid"], "${datasource}", panel["title"])

    def test_panels_do_not_overlap(self):
        taken = {}
        for panel in dashboard()["panels"]:
            place = panel["gridPos"]
            self.assertLessEqual(place["x"] + place["w"], 24, panel["title"])
            for x in range(place["x"], place["x"] + place["w"]):
                for y in range(place["y"], place["y"] + place["h"]):
                    self.assertNotIn((x, y), taken, f"{panel['title']} lies on {taken.get((x, y))}")
                    taken[x, y] = panel["title"]

    def test_its_queries_are_promql(self):
        substitutes = {"$__rate_interval": "5m", "$namespace": ".*", "$route": ".*"}
        rules = []
        for title, target in dashboard_targets():
            expression = target["expr"]
            for variable, value in substitutes.items():
                expression = expression.replace(variable, value)
            rules.append({"record": f"panel:{len(rules)}", "expr": expression, "labels": {"panel": title}})
        check_rules(self, {"groups": [{"name": "dashboard", "rules": rules}]})


def check_rules(test, rules):
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(rules, file)
        file.flush()
        result = command("promtool", "check", "rules", file.name)
    test.assertEqual(result.returncode, 0, result.stdout + result.stderr)
    test.assertIn(f"{sum(len(g['rules']) for g in rules['groups'])} rules found", result.stdout + result.stderr)


class Alerts(unittest.TestCase):
    def test_promtool_takes_them(self):
        check_rules(self, yaml.safe_load((CHART / "files/alerts.yaml").read_text()))

    def test_promtool_takes_the_rendered_rule(self):
        spec = one(rendered("full"), "PrometheusRule")["spec"]
        check_rules(self, spec)
        names = [rule.get("alert") for rule in spec["groups"][0]["rules"]]
        self.assertEqual(len(names), len(alert_rules()), "one alert left out, one rule added")
        self.assertNotIn("TidegateConnectionsReset", names)
        self.assertTrue(all(rule["labels"]["team"] == "edge" for rule in spec["groups"][0]["rules"] if "alert" in rule))

    def test_the_rendered_alerts_are_those_of_the_file(self):
        spec = one(rendered(None, "--set", "metrics.prometheusRule.enabled=true"), "PrometheusRule")["spec"]
        self.assertEqual(spec["groups"][0]["rules"], alert_rules())

    def test_they_fire_when_they_should_and_only_then(self):
        result = command("promtool", "test", "rules", HERE / "alerts_test.yaml")
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    def test_each_is_tried(self):
        tried = yaml.safe_load((HERE / "alerts_test.yaml").read_text())["tests"]
        fired = {t["alertname"] for test in tried for t in test["alert_rule_test"] if t.get("exp_alerts")}
        quiet = {t["alertname"] for test in tried for t in test["alert_rule_test"] if not t.get("exp_alerts")}
        names = {rule["alert"] for rule in alert_rules()}
        self.assertEqual(fired, names)
        self.assertEqual(quiet, names)

    def test_each_says_how_bad_it_is_and_what_to_do(self):
        for rule in alert_rules():
            self.assertIn(rule["labels"]["severity"], {"critical", "warning", "info"}, rule["alert"])
            self.assertEqual(set(rule["annotations"]), {"summary", "description"}, rule["alert"])
