"""What must hold for the chart, the plain manifests, the samples and the Dockerfile."""

import functools
import json
import os
import pathlib
import re
import shutil
import sys
import unittest

import jsonschema
import yaml

import values_docs
from rendering import CHART, CLOUDS, CRD, CRD_NAME, HERE, ROOT, VALUES, client_service, command, fits, golden, objects, one, output, pod_of, rendered, route_schema, template, validate_route


class Golden(unittest.TestCase):
    maxDiff = None

    def test_rendered_is_as_committed(self):
        for values in [*VALUES, *CLOUDS]:
            with self.subTest(values):
                committed = (HERE / f"golden/{values}.yaml").read_text()
                self.assertEqual(golden(values), committed, "if this is meant, run tests/chart/run --update")

    def test_full_values_differ_from_the_defaults_in_nearly_everything(self):
        defaults = yaml.safe_load((CHART / "values.yaml").read_text())
        full = yaml.safe_load(VALUES["full"].read_text())
        others = [yaml.safe_load(file.read_text()) for file in (VALUES["minimal"], *CLOUDS.values())]

        def get(values, path):
            for key in path:
                if not isinstance(values, dict) or key not in values:
                    return None
                values = values[key]
            return values

        paths = values_docs.comments((CHART / "values.yaml").read_text())
        same = [
            ".".join(p)
            for p in paths
            if all(get(v, p) in (None, get(defaults, p)) for v in (full, *others))
            # The PodMonitor's other values are the ServiceMonitor's, through the same helper.
            and p[:2] != ("metrics", "podMonitor")
        ]
        self.assertEqual(same, UNTRIED, "values that no values-*.yaml and no clouds/*.yaml changes")


# Values that stay at their defaults in both files, each for a reason.
UNTRIED = [
    "podDisruptionBudget.maxUnavailable",  # not used beside minAvailable
    "autoscaling.behavior",
    "metrics.serviceMonitor.honorLabels",  # the dashboard and the alerts need the default
    "metrics.dashboard.labels",
]


class Notes(unittest.TestCase):
    def notes(self, *more):
        text = output("helm", "install", "tidegate", CHART, "--namespace", "edge", "--dry-run=client", *more)
        return text[text.index("\nNOTES:\n") :]

    def test_they_lead_to_a_served_route(self):
        notes = self.notes()
        for words in (
            "-n edge get service tidegate -o jsonpath='{.status.loadBalancer",
            "wait --for=condition=Programmed",
            "port-forward service/tidegate-admin 9090:9090",
        ):
            self.assertIn(words, notes)

    def test_their_route_fits_the_crd(self):
        for more in ((), ("--set", "class=edge")):
            text = re.search(r"<<'YAML'\n(.*?)\n *YAML\n", self.notes(*more), re.S)[1]
            route = yaml.safe_load(re.sub(r"(?m)^     ", "", text))
            validate_route(route)
            self.assertEqual(route["spec"].get("className"), "edge" if more else None)

    def test_they_follow_the_type_of_service(self):
        self.assertIn(".spec.clusterIP", self.notes("--set", "service.type=ClusterIP"))
        self.assertIn(".nodePort", self.notes("--set", "service.type=NodePort"))


class Pages(unittest.TestCase):
    """The values that pages name are there."""

    PAGES = ("README.md", "CHANGELOG.md", "charts/tidegate/README.md", "manifests/README.md", *sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md")))

    @staticmethod
    @functools.cache
    def values():
        """Every value, and every group of values, by its path."""
        described = values_docs.comments((CHART / "values.yaml").read_text())
        return {".".join(path[:end]) for path in described for end in range(1, len(path) + 1)}

    @staticmethod
    @functools.cache
    def fields():
        """Every field of a rule, by its path in it, and of a route."""

        def paths(schema, prefix=""):
            for name, sub in schema.get("properties", {}).items():
                yield f"{prefix}{name}"
                yield from paths(sub, f"{prefix}{name}.")
                yield from paths(sub.get("items", {}), f"{prefix}{name}.")

        spec = route_schema()["properties"]["spec"]
        return {*paths(spec), *paths(spec["properties"]["rules"]["items"])}

    def test_each_is_in_values_yaml(self):
        top = {path.split(".")[0] for path in self.values()}
        found = set()
        for page in self.PAGES:
            text = (ROOT / page).read_text()
            # A path that begins as one of a value does; and whatever stands behind "in the chart", "chart:" or "In the chart, set".
            # Traefik's labels, which begin as values do as well, are no values.
            dotted = {word for word in re.findall(r"`([a-zA-Z0-9]+(?:\.[a-zA-Z0-9]+)+)[`=: ]", text) if word.split(".")[0] in top}
            dotted -= {word for word in dotted if page == "docs/migrating.md" and word.startswith("service.")}
            # A file that import writes is none either.
            dotted.discard("secrets.yaml")
            said = set(re.findall(r"\bchart(?::|, set)?\s+`([a-zA-Z0-9.]+)", text))
            with self.subTest(page):
                self.assertEqual((dotted - self.fields() | said) - self.values(), set(), "no such values (nor fields of a route)")
            found |= dotted | said
        self.assertTrue({"metrics.dashboard.enabled", "watchNamespaces", "cloud"} <= found, found)


class BadValues(unittest.TestCase):
    def test_each_is_refused_with_its_sentence(self):
        files = sorted((HERE / "bad-values").glob("*.yaml"))
        self.assertGreater(len(files), 10)
        for file in files:
            with self.subTest(file.name):
                expected = re.findall(r"(?m)^# expect: (.*)$", file.read_text())
                self.assertTrue(expected, f"{file.name} has no line `# expect: …`")
                result = command("helm", "template", "tidegate", CHART, "--values", file)
                self.assertNotEqual(result.returncode, 0, "these values were taken")
                for words in expected:
                    self.assertIn(words, result.stderr)

    def test_every_part_of_the_schema_is_closed_and_described(self):
        def walk(node, path):
            if node.get("type") == "object" and "properties" in node:
                self.assertIs(node.get("additionalProperties"), False, f"{path} takes unknown keys")
            for key, sub in node.get("properties", {}).items():
                if path in described and f"{path}.{key}" not in described:
                    continue
                walk(sub, f"{path}.{key}" if path else key)
                self.assertTrue(sub.get("description"), f"{path}.{key} has no description")

        described = {".".join(p) for p in values_docs.comments((CHART / "values.yaml").read_text())}
        walk(json.loads((CHART / "values.schema.json").read_text()), "")

    def test_a_parent_chart_may_pass_global_values(self):
        output("helm", "template", "tidegate", CHART, "--set", "global.imageRegistry=example.com")


class InStep(unittest.TestCase):
    """Copies and generated files are equal to what they come from."""

    maxDiff = None

    def test_crd(self):
        self.assertEqual((CHART / f"files/{CRD_NAME}.yaml").read_text(), CRD.read_text(), "run tests/chart/run --update")

    def test_crd_is_rendered_whole(self):
        crd = one(rendered(), "CustomResourceDefinition")
        metadata = crd["metadata"]
        self.assertEqual(metadata["annotations"].pop("helm.sh/resource-policy"), "keep")
        for label in ("helm.sh/chart", "app.kubernetes.io/name", "app.kubernetes.io/managed-by"):
            self.assertIn(label, metadata["labels"])
        source = yaml.safe_load(CRD.read_text())
        self.assertEqual(crd["spec"], source["spec"])
        self.assertEqual(metadata["name"], source["metadata"]["name"])
        for key, value in source["metadata"].get("annotations", {}).items():
            self.assertEqual(metadata["annotations"][key], value)

    def test_crd_is_kept_whatever_its_annotations(self):
        crd = one(rendered(None, "--set", r"crds.annotations.helm\.sh/resource-policy=delete"), "CustomResourceDefinition")
        self.assertEqual(crd["metadata"]["annotations"]["helm.sh/resource-policy"], "keep")

    def test_dashboard(self):
        source = (ROOT / "dashboards/tidegate.json").read_text()
        self.assertEqual((CHART / "files/tidegate-dashboard.json").read_text(), source, "run tests/chart/run --update")
        configmap = one(rendered("full"), "ConfigMap", "-dashboard")
        self.assertEqual(json.loads(configmap["data"]["tidegate.json"]), json.loads(source))
        self.assertEqual(configmap["metadata"]["labels"]["grafana_dashboard"], "1")

    def test_facts_of_networks(self):
        copy = (CHART / "files/networks.yaml").read_text()
        self.assertEqual(copy, (ROOT / "crates/doctor/src/networks/facts.yaml").read_text(), "run tests/chart/run --update")

    def test_values_docs(self):
        self.assertEqual(values_docs.problems(CHART), [])

    def test_install_yaml(self):
        committed = (ROOT / "manifests/install.yaml").read_text()
        self.assertEqual(output(ROOT / "manifests/generate", "--print"), committed, "run manifests/generate")

    def test_install_yaml_holds_what_the_chart_does(self):
        plain = objects((ROOT / "manifests/install.yaml").read_text())
        self.assertEqual(plain[0]["kind"], "Namespace")

        def names(documents):
            return sorted((d["kind"], d["metadata"].get("namespace", ""), d["metadata"]["name"]) for d in documents)

        self.assertEqual(names(plain[1:]), names(rendered()))
        self.assertNotIn("helm", json.dumps(plain).lower())

    def test_versions(self):
        cargo = re.search(r'(?m)^version = "(.*)"', (ROOT / "Cargo.toml").read_text())[1]
        chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
        self.assertEqual(chart["appVersion"], cargo)
        self.assertEqual(chart["version"], cargo)
        self.assertIn(f"ARG VERSION={cargo}\n", (ROOT / "Dockerfile").read_text())
        for sample in (ROOT / "manifests/samples").glob("*.yaml"):
            for tag in re.findall(r"ghcr\.io/tidegate/tidegate:(\S+)", sample.read_text()):
                self.assertEqual(tag, cargo, sample.name)


class Pods(unittest.TestCase):
    def test_they_meet_the_restricted_pod_security_standard(self):
        for values in VALUES:
            with self.subTest(values):
                spec = pod_of(rendered(values))["spec"]
                (container,) = spec["containers"]
                context = {**spec["securityContext"], **container["securityContext"]}
                self.assertIs(context["runAsNonRoot"], True)
                self.assertEqual(context["runAsUser"], 65532)
                self.assertIs(context["readOnlyRootFilesystem"], True)
                self.assertIs(context["allowPrivilegeEscalation"], False)
                self.assertEqual(context["capabilities"], {"drop": ["ALL"]})
                self.assertEqual(context["seccompProfile"], {"type": "RuntimeDefault"})
                for key in ("hostNetwork", "hostPID", "hostIPC", "initContainers"):
                    self.assertNotIn(key, spec)
                for volume in spec.get("volumes", []):
                    self.assertIn(set(volume) - {"name"}, ({"emptyDir"}, {"configMap"}))
                self.assertEqual("volumes" in spec, values == "full")

    def test_the_hostname_policy_is_mounted_so_that_a_change_arrives(self):
        documents = rendered("full")
        spec = pod_of(documents)["spec"]
        (volume,) = [v for v in spec["volumes"] if v["name"] == "hostname-policy"]
        configmap = one(documents, "ConfigMap", "-hostnames")
        self.assertEqual(volume["configMap"]["name"], configmap["metadata"]["name"])
        container = spec["containers"][0]
        (mount,) = [m for m in container["volumeMounts"] if m["name"] == "hostname-policy"]
        # A single file would stay as it was.
        self.assertNotIn("subPath", mount)
        (file,) = configmap["data"]
        self.assertIn(f"--hostname-policy={mount['mountPath']}/{file}", container["args"])
        policy = yaml.safe_load(configmap["data"][file])
        self.assertEqual(policy["default"], "Deny")
        # Nor does a change restart pods.
        changed = rendered("full", "--set", "hostnamePolicy.default=Contest")
        self.assertEqual(pod_of(changed), pod_of(documents))

    def test_service_variables_cannot_become_flags(self):
        self.assertIs(pod_of(rendered())["spec"]["enableServiceLinks"], False)

    def test_the_default_replaces_pods_without_a_gap(self):
        deployment = one(rendered(), "Deployment")["spec"]
        self.assertEqual(deployment["replicas"], 2)
        self.assertEqual(deployment["strategy"]["rollingUpdate"]["maxUnavailable"], 0)

    def test_a_change_of_version_alone_restarts_nothing(self):
        labels = pod_of(rendered())["metadata"]["labels"]
        self.assertNotIn("helm.sh/chart", labels)
        self.assertNotIn("app.kubernetes.io/version", labels)

    def test_replicas_are_left_to_the_autoscaler(self):
        deployment = one(rendered("full"), "Deployment")
        self.assertNotIn("replicas", deployment["spec"])
        target = one(rendered("full"), "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
        self.assertEqual(target, {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment["metadata"]["name"]})

    def test_the_image_is_named_by_tag_or_digest(self):
        def image(*more):
            return pod_of(rendered(None, *more))["spec"]["containers"][0]["image"]

        digest = "sha256:" + "0" * 64
        self.assertEqual(image(), "ghcr.io/tidegate/tidegate:0.1.0")
        self.assertEqual(image("--set", "image.tag=test"), "ghcr.io/tidegate/tidegate:test")
        self.assertEqual(image("--set", f"image.tag=test,image.digest={digest}"), f"ghcr.io/tidegate/tidegate@{digest}")

    def test_ports_listeners_and_probes_agree(self):
        for values in VALUES:
            with self.subTest(values):
                (container,) = pod_of(rendered(values))["spec"]["containers"]
                ports = {p["name"]: p["containerPort"] for p in container["ports"]}
                for name in ("https", "http", "admin"):
                    (listen,) = [a.split("=", 1)[1] for a in container["args"] if a.startswith(f"--{name}-listen=")]
                    self.assertEqual("off" if name not in ports else str(ports[name]), listen.rsplit(":", 1)[-1])
                for probe, path in (("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
                    self.assertEqual(container[probe]["httpGet"], {"path": path, "port": "admin"})

    def test_each_argument_is_a_flag_of_serve(self):
        arguments = pod_of(rendered("full"))["spec"]["containers"][0]["args"]
        self.assertEqual(arguments[0], "serve")
        self.assertEqual({argument.split("=")[0] for argument in arguments[1:]} - serve_flags(), set())

    def test_each_flag_of_serve_has_a_value_of_its_name(self):
        # In a pod these are known: the cluster's API, the ServiceAccount, the pod's name.
        flags = serve_flags() - {"--source", "--kubeconfig", "--identity"}
        values = yaml.safe_load((CHART / "values.yaml").read_text())
        groups = {f"{name}-{sub}" for name in ("drain", "snapshot") for sub in values[name]}
        groups |= {f"max-{re.sub('([A-Z])', lambda m: '-' + m[1].lower(), name)}" for name in values["budgets"]}
        groups |= {"secret-selector", "max-referenced-secrets"}
        names = {re.sub("-(.)", lambda m: m[1].upper(), flag[2:]) for flag in flags if flag[2:] not in groups}
        # A flag that is repeated has a list, in the plural.
        plural = {"watchNamespace": "watchNamespaces", "publishAddress": "publishAddresses", "adminHost": "adminHosts"}
        self.assertEqual({plural.get(name, name) for name in names} - values.keys(), set())

    def test_a_grace_period_that_is_just_long_enough_is_taken(self):
        for drain, grace in (
            ("delay=5s,drain.spread=0s,drain.timeout=60s", 70),
            ("delay=4500ms,drain.spread=1s,drain.timeout=1m25s", 95),
            ("delay=0s,drain.spread=59m,drain.timeout=1h1s500ms", 3607),
        ):
            with self.subTest(drain):
                pod = pod_of(rendered(None, "--set", f"terminationGracePeriodSeconds={grace},drain.{drain}"))
                self.assertEqual(pod["spec"]["terminationGracePeriodSeconds"], grace)
                arguments = pod["spec"]["containers"][0]["args"]
                for value in drain.split(",drain."):
                    self.assertIn(f"--drain-{value}", arguments)
                with self.assertRaisesRegex(AssertionError, f"Set it to at least {grace}, or"):
                    template(None, "--set", f"terminationGracePeriodSeconds={grace - 1},drain.{drain}")


@functools.cache
def serve_flags():
    """The flags that have an environment twin, which are those of `serve`, but for those of other commands."""
    sources = [ROOT / "src/cli/args.rs", *(ROOT / "src/cli/args").glob("*.rs")]
    twins = {twin for source in sources for twin in re.findall(r'env = "TIDEGATE_([A-Z0-9_]+)"', source.read_text())}
    if "HTTPS_LISTEN" not in twins:
        raise AssertionError("src/cli/args no longer names the flags' variables as env = \"TIDEGATE_…\"")
    others = ("CHECK_", "DOCTOR_", "IMPORT_", "UPSTREAM")
    return {f"--{twin.lower().replace('_', '-')}" for twin in twins if not twin.startswith(others)}


class Wiring(unittest.TestCase):
    """What refers to something else by label or name finds it."""

    def test_selectors_find_the_pods(self):
        for values in VALUES:
            documents = rendered(values)
            labels = pod_of(documents)["metadata"]["labels"]
            for d in documents:
                selector = {
                    "Service": lambda s: s["selector"],
                    "Deployment": lambda s: s["selector"]["matchLabels"],
                    "PodDisruptionBudget": lambda s: s["selector"]["matchLabels"],
                    "NetworkPolicy": lambda s: s["podSelector"]["matchLabels"],
                    "PodMonitor": lambda s: s["selector"]["matchLabels"],
                }.get(d["kind"])
                if selector:
                    with self.subTest(values=values, kind=d["kind"], name=d["metadata"]["name"]):
                        self.assertTrue(fits(selector(d["spec"]), labels))
            for constraint in pod_of(documents)["spec"].get("topologySpreadConstraints", []):
                self.assertTrue(fits(constraint["labelSelector"]["matchLabels"], labels))

    def test_the_service_monitor_finds_the_admin_service_alone(self):
        documents = rendered("full")
        selector = one(documents, "ServiceMonitor")["spec"]["selector"]["matchLabels"]
        found = [d["metadata"]["name"] for d in documents if d["kind"] == "Service" and fits(selector, d["metadata"]["labels"])]
        self.assertEqual(found, ["edge-gate-admin"])

    def test_named_ports_exist(self):
        for values in VALUES:
            documents = rendered(values)
            names = {p["name"] for p in pod_of(documents)["spec"]["containers"][0]["ports"]}
            for service in (d for d in documents if d["kind"] == "Service"):
                for port in service["spec"]["ports"]:
                    self.assertIn(port["targetPort"], names)
            for policy in (d for d in documents if d["kind"] == "NetworkPolicy"):
                for rule in policy["spec"]["ingress"]:
                    self.assertLessEqual({p["port"] for p in rule["ports"]}, names)

    def test_clients_never_reach_the_admin_port(self):
        for values in VALUES:
            documents = rendered(values)
            ports = client_service(documents)["spec"]["ports"]
            self.assertNotIn("admin", {p["targetPort"] for p in ports})

    def test_the_admin_port_is_for_prometheus_by_default_and_the_data_ports_for_everyone(self):
        for cloud, from_anywhere in [("none", False), ("aws-nlb", True)]:
            documents = rendered(None, "--set", f"cloud={cloud}")
            data, prometheus, *more = next(d for d in documents if d["kind"] == "NetworkPolicy")["spec"]["ingress"]
            self.assertNotIn("from", data)
            self.assertNotIn("admin", {p["port"] for p in data["ports"]})
            self.assertEqual([p["port"] for p in prometheus["ports"]], ["admin"])
            labels = [peer["podSelector"]["matchLabels"] for peer in prometheus["from"]]
            self.assertEqual(labels, [{"app.kubernetes.io/name": "prometheus"}])
            # Health checks of its subnets, which only the operator knows.
            self.assertEqual([rule.get("from") for rule in more], [None] if from_anywhere else [])
        named = "networkPolicy.adminFrom[0].ipBlock.cidr=10.0.0.0/16"
        documents = rendered(None, "--set", f"cloud=aws-nlb,{named}")
        rules = next(d for d in documents if d["kind"] == "NetworkPolicy")["spec"]["ingress"]
        self.assertEqual(len(rules), 2)

    def test_the_default_service(self):
        spec = client_service(rendered())["spec"]
        self.assertEqual((spec["type"], spec["externalTrafficPolicy"]), ("LoadBalancer", "Local"))
        self.assertEqual({p["port"]: p["targetPort"] for p in spec["ports"]}, {443: "https", 80: "http"})

    def test_a_cluster_ip_has_nothing_of_a_load_balancer(self):
        spec = client_service(rendered("full", "--set", "service.type=ClusterIP"))["spec"]
        for key in ("externalTrafficPolicy", "loadBalancerClass", "loadBalancerSourceRanges", "allocateLoadBalancerNodePorts"):
            self.assertNotIn(key, spec)
        self.assertTrue(all("nodePort" not in p for p in spec["ports"]))

    def test_names_fit_however_long_the_release_name(self):
        for d in rendered("full", "--set", "fullnameOverride=,nameOverride=", name="r" * 53):
            self.assertLessEqual(len(d["metadata"]["name"]), 63)
            for value in d["metadata"]["labels"].values():
                self.assertLessEqual(len(value), 63)

    def test_the_default_installs_nothing_optional(self):
        kinds = {d["kind"] for d in rendered()}
        self.assertEqual(
            kinds,
            {
                "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "Deployment", "NetworkPolicy",
                "PodDisruptionBudget", "Role", "RoleBinding", "Service", "ServiceAccount",
            },
        )  # fmt: skip


class Rbac(unittest.TestCase):
    READ = ["get", "list", "watch"]

    EVERYTHING = {
        ("tidegate.io", "websocketroutes"): (READ, None),
        ("tidegate.io", "websocketroutes/status"): (["get", "patch", "update"], None),
        ("", "secrets"): (READ, None),
        ("", "services"): (READ, None),
        ("", "configmaps"): (READ, None),
        ("discovery.k8s.io", "endpointslices"): (READ, None),
        ("gateway.networking.k8s.io", "referencegrants"): (READ, None),
        ("events.k8s.io", "events"): (["create", "patch"], None),
    }

    WITHOUT_SECRETS = {key: verbs for key, verbs in EVERYTHING.items() if key != ("", "secrets")}

    def test_secrets_that_are_read_by_name_need_no_right_to_all(self):
        documents = rendered(None, "--set", "secrets.access=referenced")
        self.assertEqual(self.roles(documents, "ClusterRole"), {None: self.WITHOUT_SECRETS})
        self.assertEqual(set(self.roles(documents)), {"tidegate-system"})
        arguments = pod_of(documents)["spec"]["containers"][0]["args"]
        self.assertIn("--secrets=referenced", arguments)
        self.assertIn("--max-referenced-secrets=1000", arguments)

    def test_labels_choose_secrets_and_need_the_right_to_all(self):
        documents = rendered(None, "--set", "secrets.selector=tidegate.io/serve=true")
        self.assertEqual(self.roles(documents, "ClusterRole"), {None: self.EVERYTHING})
        arguments = pod_of(documents)["spec"]["containers"][0]["args"]
        self.assertIn("--secret-selector=tidegate.io/serve=true", arguments)

    def rules(self, role):
        return {
            (group, resource): (sorted(rule["verbs"]), rule.get("resourceNames"))
            for rule in role["rules"]
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            if not (resource == "leases" and rule["verbs"] == ["create"])
        }

    def roles(self, documents, kind="Role"):
        """What each Role allows, by namespace; its RoleBinding must be beside it."""
        found = {}
        for role in (d for d in documents if d["kind"] == kind):
            name, namespace = role["metadata"]["name"], role["metadata"].get("namespace")
            of_role = (d for d in documents if d["kind"] == f"{kind}Binding" and d["metadata"]["name"] == name)
            (binding,) = [d for d in of_role if d["metadata"].get("namespace") == namespace]
            self.assertEqual(binding["roleRef"], {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name})
            # Rights to single Secrets come beside the others of a namespace.
            key = f"{namespace}/secrets" if name.endswith("-secrets") else namespace
            self.assertNotIn(key, found)
            found[key] = self.rules(role)
        return found

    def test_the_cluster_role_is_exactly_this(self):
        self.assertEqual(self.roles(rendered(), "ClusterRole"), {None: self.EVERYTHING})

    def test_with_watched_namespaces_there_are_roles_in_these_alone(self):
        documents = rendered("full")
        # The labels of namespaces are nothing that a Role could give.
        labels = {("", "namespaces"): (self.READ, None)}
        self.assertEqual(self.roles(documents, "ClusterRole"), {None: labels})
        no_labels = rendered("full", "--set-json", 'hostnamePolicy.rules=[{"hostnames": ["*"], "namespaceSelector": {}}]')
        self.assertFalse([d for d in no_labels if d["kind"].startswith("ClusterRole")])
        roles = self.roles(documents)
        self.assertEqual(roles.pop("edge-leases"), self.lease("edge-writer"))
        # The published Service is in neither of them.
        self.assertEqual(roles.pop("front"), {("", "services"): (self.READ, ["balancer"])})
        by_name = {
            "chat/secrets": {("", "secrets"): (["list", "watch"], ["chat-tls", "other-tls"])},
            "games/secrets": {("", "secrets"): (["list", "watch"], None)},
        }
        self.assertEqual(roles, {"chat": self.WITHOUT_SECRETS, "games": self.WITHOUT_SECRETS, **by_name})
        arguments = pod_of(documents)["spec"]["containers"][0]["args"]
        self.assertIn("--watch-namespace=chat,games", arguments)

    def test_the_published_service_needs_no_role_where_everything_is_read(self):
        for values in ("publishService=chat/front", "publishAddresses={203.0.113.7}"):
            roles = self.roles(rendered(None, "--set", f"watchNamespaces={{chat}},{values}"))
            self.assertEqual(set(roles), {"chat", "tidegate-system"})

    def test_releases_for_different_namespaces_do_not_share_a_lease(self):
        arguments = pod_of(rendered(None, "--set", "watchNamespaces={chat}", name="one"))["spec"]["containers"][0]["args"]
        self.assertIn("--lease-name=tidegate-tidegate-one-tidegate", arguments)

    def lease(self, name):
        return {("coordination.k8s.io", "leases"): (["get", "patch", "update"], [name])}

    def test_the_role_is_for_the_one_lease(self):
        for values, lease, namespace in (("default", "tidegate-tidegate", "tidegate-system"), ("full", "edge-writer", "edge-leases")):
            documents = rendered(values)
            self.assertEqual(self.roles(documents)[namespace], self.lease(lease))
            arguments = pod_of(documents)["spec"]["containers"][0]["args"]
            self.assertIn(f"--lease-name={lease}", arguments)
            self.assertIn(f"--lease-namespace={namespace}", arguments)

    def test_the_bindings_are_for_the_pods_account(self):
        for values in ("default", "full"):
            documents = rendered(values)
            account = pod_of(documents)["spec"]["serviceAccountName"]
            self.assertEqual(one(documents, "ServiceAccount")["metadata"]["name"], account)
            for binding in (d for d in documents if d["kind"].endswith("RoleBinding")):
                (subject,) = binding["subjects"]
                self.assertEqual((subject["name"], subject["namespace"]), (account, "tidegate-system"))

    def test_none_is_made_when_told_so(self):
        documents = rendered("minimal")
        self.assertFalse({"ServiceAccount", "ClusterRole", "Role"} & {d["kind"] for d in documents})
        self.assertEqual(pod_of(documents)["spec"]["serviceAccountName"], "mine")


class Samples(unittest.TestCase):
    def files(self):
        files = sorted((ROOT / "manifests/samples").glob("*.yaml"))
        self.assertGreaterEqual(len(files), 5)
        return {file.name: objects(file.read_text()) for file in files}

    def test_their_routes_fit_the_crd(self):
        for name, documents in self.files().items():
            with self.subTest(name):
                routes = [d for d in documents if d["kind"] == "WebSocketRoute"]
                self.assertTrue(routes)
                for route in routes:
                    validate_route(route)

    def test_the_crd_would_catch_a_misspelt_field(self):
        route = next(d for d in self.files()["minimal.yaml"] if d["kind"] == "WebSocketRoute")
        route["spec"]["hostname"] = "chat.example.com"
        with self.assertRaises(jsonschema.ValidationError):
            validate_route(route)

    def test_their_references_lead_somewhere(self):
        for name, documents in self.files().items():
            text = (ROOT / "manifests/samples" / name).read_text()
            there = {(d["kind"], d["metadata"].get("namespace"), d["metadata"]["name"]) for d in documents}
            for route in (d for d in documents if d["kind"] == "WebSocketRoute"):
                namespace = route["metadata"]["namespace"]
                with self.subTest(name):
                    self.assertIn(("Namespace", None, namespace), there)
                    for rule in route["spec"]["rules"]:
                        for ref in rule["backendRefs"]:
                            service = ("Service", namespace, ref["name"])
                            if service in there:
                                (ports,) = [d["spec"]["ports"] for d in documents if d["kind"] == "Service" and d["metadata"]["name"] == ref["name"]]
                                self.assertIn(ref["port"], [p["port"] for p in ports])
                            else:
                                self.assertIn(f"a Service `{ref['name']}`", text)
                    tls = route["spec"]["tls"]
                    self.assertIn(tls.get("secretName") or tls["secretRef"]["name"], text.split("apiVersion:")[0])

    def test_the_manifests_readme_lists_them(self):
        readme = (ROOT / "manifests/README.md").read_text()
        for name in self.files():
            self.assertIn(f"`{name}`", readme)


class Dockerfile(unittest.TestCase):
    TEXT = (ROOT / "Dockerfile").read_text()

    def test_hadolint(self):
        hadolint = shutil.which("hadolint", path=f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}")
        result = command(hadolint, ROOT / "Dockerfile")
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    def test_its_ports_and_user_are_those_of_the_chart(self):
        values = yaml.safe_load((CHART / "values.yaml").read_text())
        ports = []
        for name in ("https", "http", "admin"):
            self.assertIn(f'TIDEGATE_{name.upper()}_LISTEN="{values[f"{name}Listen"]}"', self.TEXT)
            ports.append(values[f"{name}Listen"].rsplit(":", 1)[1])
        self.assertIn(f"\nEXPOSE {' '.join(ports)}\n", self.TEXT)
        self.assertIn("\nUSER {runAsUser}:{runAsGroup}\n".format(**values["podSecurityContext"]), self.TEXT)
        self.assertIn('\nENTRYPOINT ["/tidegate"]\nCMD ["serve"]\n', self.TEXT)

    def test_the_build_context_holds_what_is_copied_and_no_more(self):
        copied = {name for line in re.findall(r"(?m)^COPY (?!--)(.*) \S+$", self.TEXT) for name in line.split()}
        ignore = (ROOT / ".dockerignore").read_text().splitlines()
        self.assertIn("*", ignore)
        self.assertEqual(copied, {line[1:] for line in ignore if line.startswith("!")})
        for name in copied:
            self.assertTrue((ROOT / name).exists(), name)

    def test_the_sources_include_nothing_that_is_not_copied(self):
        folders = [ROOT / "src", *(ROOT / "crates").glob("*/src")]
        for file in (file for folder in folders for file in folder.rglob("*.rs")):
            for name in re.findall(r'include_(?:str|bytes)!\(\s*"([^"]+)"', file.read_text()):
                included = (file.parent / name).resolve()
                if "tests" in file.stem or "tests" in file.parts:
                    continue
                self.assertTrue(any(map(included.is_relative_to, folders)), f"{file.relative_to(ROOT)} includes {name}: copy it in the Dockerfile too")

    def test_its_rust_is_the_projects(self):
        version = re.search(r'(?m)^rust-version = "([0-9.]+)"', (ROOT / "Cargo.toml").read_text())[1]
        self.assertEqual(set(re.findall(r"(?m)^FROM rust:(\S+)-bookworm AS ", self.TEXT)), {version})
