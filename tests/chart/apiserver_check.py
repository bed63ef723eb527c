"""See apiserver-check, which runs this."""

import json
import pathlib
import subprocess
import sys
import time

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = ROOT / "tests/chart"
CRD = "customresourcedefinition/websocketroutes.tidegate.io"

# Kinds of other projects, which may be missing from the cluster. Any other kind that is missing is a failure.
OPTIONAL = {
    "monitoring.coreos.com": {"ServiceMonitor", "PodMonitor", "PrometheusRule"},
    "gateway.networking.k8s.io": {"ReferenceGrant"},
    "cloud.google.com": {"BackendConfig"},
}


# Warnings that are meant, by the set in which they are.
MEANT = {
    # GKE takes an Ingress by this annotation, and none that names a class in its spec.
    "chart, clouds/gcp.yaml": {
        "Warning: annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead",
    },
}


def run(*arguments, text=None):
    return subprocess.run(arguments, input=text, capture_output=True, text=True, timeout=120, check=False)


def kubectl(*arguments, text=None):
    return run("kubectl", "--request-timeout=30s", *arguments, text=text)


def must(result):
    if result.returncode:
        sys.exit(f"{' '.join(map(str, result.args))} failed:\n{result.stdout}{result.stderr}")
    return result.stdout


def chart(*more):
    return must(run("helm", "template", "apicheck", ROOT / "charts/tidegate", "--namespace", "tidegate-apicheck", *more))


def sets():
    """What to check: a name, and its objects."""
    texts = {"chart, default values": chart()}
    for values in sorted([*HERE.glob("values-*.yaml"), *HERE.glob("clouds/*.yaml")]):
        texts[f"chart, {values.relative_to(HERE)}"] = chart("--values", values)
    for file in (ROOT / "manifests/install.yaml", *sorted((ROOT / "manifests/samples").glob("*.yaml"))):
        texts[str(file.relative_to(ROOT))] = file.read_text()
    return {name: [d for d in yaml.safe_load_all(text) if d] for name, text in texts.items()}


def kinds_served():
    """(group, kind) of all that the API server has."""
    groups = [("", "/api/v1")]
    for group in json.loads(must(kubectl("get", "--raw", "/apis")))["groups"]:
        groups += [(group["name"], f"/apis/{version['groupVersion']}") for version in group["versions"]]
    return {
        (group, resource["kind"])
        for group, path in groups
        for resource in json.loads(must(kubectl("get", "--raw", path)))["resources"]
    }


def group_of(document):
    return document["apiVersion"].rpartition("/")[0]


def dry_run(documents):
    # Server-side apply, so that objects which are there already, from whomever, do not matter.
    manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})
    return kubectl(
        "apply", "--server-side", "--force-conflicts", "--field-manager=apicheck", "--dry-run=server", "--validate=strict",
        "--filename=-", text=manifest,
    )  # fmt: skip


def missing_namespaces(documents):
    there = set(must(kubectl("get", "namespaces", "--output=jsonpath={.items[*].metadata.name}")).split())
    return sorted({d["metadata"].get("namespace") for d in documents} - there - {None})


def create_namespace(name):
    # A Deployment is told against this standard, with a warning, and a warning fails the check.
    labels = {"pod-security.kubernetes.io/warn": "restricted"}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    must(kubectl("create", "--filename=-", text=json.dumps(namespace)))


def wait_for_route_api():
    must(kubectl("wait", "--for=condition=Established", "--timeout=30s", CRD))
    # Established comes a moment before the kind is served.
    deadline = time.monotonic() + 30
    while ("tidegate.io", "WebSocketRoute") not in kinds_served():
        if time.monotonic() > deadline:
            sys.exit("the API server did not serve WebSocketRoutes within 30 s of its CRD being Established")
        time.sleep(0.1)


def check(objects, served):
    """Failures, one text each."""
    failures, passed, skipped = [], 0, 0
    for name, documents in objects.items():
        kept = []
        for d in documents:
            missing = (group_of(d), d["kind"]) not in served
            if missing and d["kind"] in OPTIONAL.get(group_of(d), ()):
                print(f"skipped  {name}: {d['kind']} {d['metadata']['name']}: the cluster has no CRD of {group_of(d)}")
                skipped += 1
            else:
                kept.append(d)
        result = dry_run(kept)
        # Warnings count: of misspelt fields, of deprecated ones, of the Pod Security Standard.
        complaints = [line for line in result.stderr.splitlines() if line.strip() and line not in MEANT.get(name, ())]
        accepted = len(result.stdout.splitlines())
        if result.returncode or complaints or accepted != len(kept):
            failures.append(f"{name}: {accepted} of {len(kept)} objects accepted\n" + "\n".join(complaints))
            print(f"FAILED   {name}")
        else:
            print(f"accepted {name}: {len(kept)} objects")
            passed += accepted
    if passed == 0:
        failures.append("no object was checked at all")
    print(f"{passed} objects accepted, {skipped} skipped")
    return failures


def check_the_check():
    """A misspelt field and a route that breaks a rule of the CRD must be refused, or this check proves nothing."""
    route = {
        "apiVersion": "tidegate.io/v1alpha1",
        "kind": "WebSocketRoute",
        "metadata": {"name": "apicheck", "namespace": "tidegate-apicheck"},
        "spec": {"hostnames": ["a.example.com"], "rules": [{"backendRefs": [{"name": "a", "port": 80}]}]},
    }
    if dry_run([route]).returncode:
        return [f"a plain route was refused:\n{dry_run([route]).stderr}"]
    misspelt = {**route, "spec": {**route["spec"], "hostname": "a.example.com"}}
    two_stars = {**route, "spec": {**route["spec"], "hostnames": ["*.*.example.com"]}}
    return [
        f"the API server accepted {what}"
        for what, bad in (("a field that the CRD does not have", misspelt), ("a hostname with two wildcards", two_stars))
        if dry_run([bad]).returncode == 0
    ]


def main():
    objects = sets()
    everything = [d for documents in objects.values() for d in documents]
    crd = next(d for d in objects["chart, default values"] if d["kind"] == "CustomResourceDefinition")
    own_crd, namespaces, failures = False, [], []
    try:
        if kubectl("get", CRD).returncode:
            own_crd = True
            created = kubectl("create", "--filename=-", text=json.dumps(crd))
            must(created)
            if created.stderr:
                failures.append(f"the API server takes the CRD with warnings:\n{created.stderr}")
        wait_for_route_api()
        for name in missing_namespaces(everything):
            namespaces.append(name)
            create_namespace(name)
        failures += check(objects, kinds_served()) + check_the_check()
    finally:
        for name in namespaces:
            kubectl("delete", "--ignore-not-found", "--wait=false", f"namespace/{name}")
        if own_crd:
            kubectl("delete", "--ignore-not-found", "--timeout=60s", CRD)
        for name in namespaces:
            kubectl("wait", "--for=delete", "--timeout=60s", f"namespace/{name}")
    if failures:
        sys.exit("\n".join(f"\n{failure.rstrip()}" for failure in failures))
    print("the API server takes everything, with strict validation and without a warning")


if __name__ == "__main__":
    main()
