"""What `cloud` does to the chart."""

import functools
import json
import re
import tempfile
import unittest

import jsonschema
import yaml

from rendering import CHART, CLOUDS, ROOT, client_service, one, output, pod_of, rendered, template, validate_route


class Clouds(unittest.TestCase):
    """What `cloud` sets, held to the facts of networks."""

    @staticmethod
    @functools.cache
    def facts():
        networks = yaml.safe_load((ROOT / "crates/doctor/src/networks/facts.yaml").read_text())["networks"]
        return {network["name"]: network for network in networks}

    def test_each_network_and_each_cloud_has_its_file(self):
        self.assertEqual(sorted(self.facts()), sorted(CLOUDS))
        schema = json.loads((CHART / "values.schema.json").read_text())
        clouds = {yaml.safe_load(file.read_text())["cloud"] for file in CLOUDS.values()}
        self.assertEqual({"none", *clouds}, set(schema["properties"]["cloud"]["enum"]))

    def test_without_a_cloud_nothing_is_set(self):
        documents = rendered()
        self.assertNotIn("annotations", client_service(documents)["metadata"])
        self.assertNotIn("loadBalancerClass", client_service(documents)["spec"])
        self.assertFalse({"Ingress", "BackendConfig"} & {d["kind"] for d in documents})

    def test_quiet_sockets_outlive_two_pings(self):
        ping = 30  # of a route that says nothing; the tests of crates/doctor/src/networks hold the program to it
        for name, network in self.facts().items():
            annotations = {**self.annotations(name, "Service"), **self.annotations(name, "Ingress")}
            found = {
                "aws-alb": lambda a: re.search(r"idle_timeout\.timeout_seconds=(\d+)", a["alb.ingress.kubernetes.io/load-balancer-attributes"])[1],
                "aws-nlb": lambda a: min(
                    int(re.fullmatch(r"tcp\.idle_timeout\.seconds=(\d+)", value)[1])
                    for key, value in a.items() if "-listener-attributes." in key
                ),
                "azure": lambda a: a["appgw.ingress.kubernetes.io/request-timeout"],
                "azure-lb": lambda a: 60 * int(a["service.beta.kubernetes.io/azure-load-balancer-tcp-idle-timeout"]),
            }.get(name)  # fmt: skip
            with self.subTest(name):
                if "idle" not in network:
                    self.assertIsNone(found)
                    continue
                idle = int(found(annotations)) if found else network["idle"]["default"]
                self.assertGreater(idle, 2 * ping)
                if found:
                    self.assertGreaterEqual(idle, network["idle"]["minimum"])
                    self.assertLessEqual(idle, network["idle"]["maximum"])

    def annotations(self, name, kind):
        found = [d for d in rendered(name) if d["kind"] == kind and not d["metadata"]["name"].endswith("-admin")]
        return {key: value for d in found for key, value in d["metadata"].get("annotations", {}).items()}

    def test_nothing_is_cut_before_its_goodbye_is_over(self):
        for name, more, seconds in (
            ("aws-alb", (), "65"),
            ("aws-nlb", ("--set", "drain.delay=30s,drain.timeout=1m500ms,terminationGracePeriodSeconds=100"), "91"),
            ("azure", (), "80"),
            ("gcp", ("--set", "drain.timeout=2h,terminationGracePeriodSeconds=8000"), "3600"),
        ):
            with self.subTest(name):
                documents = rendered(name, *more)
                text = json.dumps([d for d in documents if d["kind"] in ("Service", "Ingress", "BackendConfig")])
                found = re.findall(r"(?:deregistration_delay\.timeout_seconds=|draining-timeout\W+|drainingTimeoutSec\W+)(\d+)", text)
                self.assertEqual(found, [seconds])

    def test_health_is_asked_of_the_admin_port(self):
        keys = {
            "aws-alb": "alb.ingress.kubernetes.io/healthcheck-{}",
            "aws-nlb": "service.beta.kubernetes.io/aws-load-balancer-healthcheck-{}",
            "azure": "appgw.ingress.kubernetes.io/health-probe-{}",
        }
        for name, key in keys.items():
            documents = rendered(name, "--set", "adminListen=:9191")
            annotations = {k: v for d in documents for k, v in d["metadata"].get("annotations", {}).items()}
            self.assertEqual((annotations[key.format("port")], annotations[key.format("path")]), ("9191", "/readyz"))
        check = one(rendered("gcp", "--set", "adminListen=:9191"), "BackendConfig")["spec"]["healthCheck"]
        self.assertEqual((check["port"], check["requestPath"]), (9191, "/readyz"))

    def test_who_ends_tls_is_trusted_and_gets_plain_http(self):
        for name, network in self.facts().items():
            with self.subTest(name):
                documents = rendered(name)
                arguments = pod_of(documents)["spec"]["containers"][0]["args"]
                trusted = [a for argument in arguments if argument.startswith("--trusted-proxies=") for a in argument[18:].split(",")]
                self.assertLessEqual(set(network.get("proxies", [])), set(trusted))
                if not (ingress := [d for d in documents if d["kind"] == "Ingress"]):
                    continue
                self.assertEqual(network["layer"], 7)
                self.assertTrue(trusted)
                self.assertEqual(client_service(documents)["spec"]["type"], "ClusterIP")
                for rule in ingress[0]["spec"]["rules"]:
                    (path,) = rule["http"]["paths"]
                    service = path["backend"]["service"]
                    self.assertEqual(service, {"name": client_service(documents)["metadata"]["name"], "port": {"name": "http"}})
                policy = one(documents, "NetworkPolicy")["spec"]["ingress"][-1]
                self.assertEqual(policy["ports"][0]["port"], "admin")
                self.assertEqual(len(policy["from"]), len(trusted))

    def test_no_proxy_protocol_is_switched_on(self):
        for source in [ROOT / "src/cli/args.rs", *(ROOT / "src/cli/args").glob("*.rs")]:
            self.assertNotIn("proxy-protocol", source.read_text(), "Tidegate reads it now: the preset may use it")
        for name in CLOUDS:
            text = template(name).lower()
            self.assertNotIn("proxy-protocol", text)
            self.assertNotIn("proxy_protocol", text)

    def test_the_users_annotations_win(self):
        scheme = "service.beta.kubernetes.io/aws-load-balancer-scheme"
        self.assertEqual(self.annotations("aws-nlb", "Service")[scheme], "internal")
        for name, kind, key in (
            ("aws-alb", "ingress", "alb.ingress.kubernetes.io/scheme"),
            ("azure", "ingress", "appgw.ingress.kubernetes.io/request-timeout"),
            ("azure-lb", "service", "service.beta.kubernetes.io/azure-load-balancer-tcp-idle-timeout"),
        ):
            with self.subTest(key):
                mine = ("--set-string", f"{kind}.annotations.{key.replace('.', chr(92) + '.')}=mine")
                self.assertEqual(one(rendered(name, *mine), kind.capitalize(), "tidegate")["metadata"]["annotations"][key], "mine")
        spec = one(rendered("gcp"), "BackendConfig")["spec"]
        self.assertEqual((spec["timeoutSec"], spec["securityPolicy"], spec["healthCheck"]["port"]), (43200, {"name": "edge"}, 9090))

    def test_a_socket_at_google_lives_a_day_at_most(self):
        lifetime = self.facts()["gcp"]["lifetime"]
        spec = one(rendered(None, "--set", "cloud=gcp,ingress.tls[0].secretName=chat-tls"), "BackendConfig")["spec"]
        self.assertEqual(spec["timeoutSec"], lifetime["advised"])

    def test_ports_that_are_passed_are_taken(self):
        for port in self.facts()["cloudflare"]["tls_ports"]:
            template("cloudflare", "--set", f"service.ports.https={port}")
        template("cloudflare", "--set", "service.ports.https=3000,publicHttpsPort=443")
        template("cloudflare", "--set", "service.ports.http=3000,httpListen=off")
        template("aws-nlb", "--set", "service.ports.https=3000,service.ports.http=3001")
        with self.assertRaisesRegex(AssertionError, "service.ports.https is 3000, but Cloudflare does not pass this port"):
            template("cloudflare", "--set", "service.ports.https=3000")

    def test_their_backend_config_fits_its_schema(self):
        # Those parts of the CRD of cloud.google.com/v1 that the preset uses.
        count = {"type": "integer", "minimum": 1}
        schema = {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "timeoutSec": count,
                "connectionDraining": {"type": "object", "additionalProperties": False, "properties": {"drainingTimeoutSec": {"type": "integer", "maximum": 3600}}},
                "securityPolicy": {"type": "object"},
                "healthCheck": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        "type": {"enum": ["HTTP", "HTTPS", "HTTP2"]},
                        "requestPath": {"type": "string"},
                        **dict.fromkeys(("port", "checkIntervalSec", "timeoutSec", "healthyThreshold", "unhealthyThreshold"), count),
                    },
                },
            },
        }  # fmt: skip
        spec = one(rendered("gcp"), "BackendConfig")["spec"]
        jsonschema.validate(spec, schema)
        self.assertLessEqual(spec["healthCheck"]["timeoutSec"], spec["healthCheck"]["checkIntervalSec"])

    def test_the_examples_of_the_page_are_taken(self):
        blocks = re.findall(r"(?s)```yaml\n(cloud: .*?)```", (ROOT / "docs/networks.md").read_text())
        self.assertGreaterEqual(len(blocks), 3)
        for block in blocks:
            with self.subTest(block), tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
                file.write(block)
                file.flush()
                template(None, "--values", file.name)

    def test_notes_say_what_to_do_there(self):
        for name, words in {
            "aws-alb": ("get ingress tidegate", "certificate in ACM", "publishAddresses"),
            "aws-nlb": ("get service tidegate", "/readyz on port 9090", "drain.delay=30s"),
            "gcp": ("timeoutSec", "timeouts.maxDuration", "trustedProxies"),
            "gcp-passthrough": ("TLS ends at Tidegate",),
            "azure": ("Ingress Controller", "get ingress tidegate"),
            "azure-lb": ("30 minutes",),
            "cloudflare": ("Network > WebSockets", "Full (strict)", "loadBalancerSourceRanges"),
        }.items():
            with self.subTest(name):
                text = output("helm", "install", "tidegate", CHART, "--dry-run=client", "--values", CLOUDS[name])
                notes = text[text.index("\nNOTES:\n") :]
                for word in words:
                    self.assertIn(word, notes)
                route = yaml.safe_load(re.sub(r"(?m)^     ", "", re.search(r"<<'YAML'\n(.*?)\n *YAML\n", notes, re.S)[1]))
                validate_route(route)
                self.assertEqual("tls" in route["spec"], not any(d["kind"] == "Ingress" for d in rendered(name)))
