"""What the tests of the chart share: renderings, and the schema of routes."""

import functools
import pathlib
import subprocess
import sys

import jsonschema
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = ROOT / "tests/chart"
CHART = ROOT / "charts/tidegate"
CRD_NAME = "websocketroutes.tidegate.io"
CRD = ROOT / f"crds/{CRD_NAME}.yaml"
NAMES = ROOT / "crates/telemetry/src/names.rs"

# Each set of values with its golden file. The CRD and the dashboard are left out: they are compared with their sources.
VALUES = {"default": None, "full": HERE / "values-full.yaml", "minimal": HERE / "values-minimal.yaml"}
# One for each way that `cloud` goes. Of these only what is the cloud's stands in the golden file.
CLOUDS = {file.stem: file for file in sorted((HERE / "clouds").glob("*.yaml"))}
OF_CLOUDS = [f"--show-only=templates/{name}.yaml" for name in ("service", "ingress", "backendconfig", "networkpolicy")]


def command(*arguments, **options):
    return subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False, **options)


def output(*arguments):
    result = command(*arguments)
    if result.returncode:
        raise AssertionError(f"{' '.join(map(str, arguments))} failed:\n{result.stdout}{result.stderr}")
    return result.stdout


@functools.cache
def template(values=None, *more, name="tidegate"):
    values = {**VALUES, **CLOUDS}[values] if values else None
    values = ("--values", values) if values else ()
    return output("helm", "template", name, CHART, "--namespace", "tidegate-system", *values, *more)


def objects(text):
    return [document for document in yaml.safe_load_all(text) if document]


def rendered(values=None, *more, **options):
    return objects(template(values, *more, **options))


def one(documents, kind, suffix=""):
    found = [d for d in documents if d["kind"] == kind and d["metadata"]["name"].endswith(suffix)]
    assert len(found) == 1, f"{len(found)} objects of the kind {kind} and a name that ends with {suffix!r}, not 1"
    return found[0]


def pod_of(documents):
    return one(documents, "Deployment")["spec"]["template"]


def client_service(documents):
    return next(d for d in documents if d["kind"] == "Service" and not d["metadata"]["name"].endswith("-admin"))


def golden(values):
    if values in CLOUDS:
        # A template that renders nothing cannot be shown.
        kinds = {document["kind"] for document in rendered(values)}
        shown = {"ingress": "Ingress", "backendconfig": "BackendConfig", "networkpolicy": "NetworkPolicy"}
        return template(values, *(option for option in OF_CLOUDS if shown.get(pathlib.Path(option).stem, "Service") in kinds))
    return template(values, "--set", "crds.install=false,metrics.dashboard.enabled=false")


def fits(selector, labels):
    return selector.items() <= labels.items()


def closed(schema):
    """The CRD's schema as the API server applies it with strict field validation: no unknown fields."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        schema.setdefault("additionalProperties", False)
    return schema


@functools.cache
def route_schema():
    (version,) = yaml.safe_load(CRD.read_text())["spec"]["versions"]
    schema = closed(version["schema"]["openAPIV3Schema"])
    schema["properties"].update({key: True for key in ("apiVersion", "kind", "metadata")})
    return schema


def validate_route(route):
    jsonschema.validate(route, route_schema())


if __name__ == "__main__":
    if sys.argv[1:] != ["--update-golden"]:
        sys.exit("usage: rendering.py --update-golden; to run the tests: tests/chart/run")
    (HERE / "golden").mkdir(exist_ok=True)
    for each in [*VALUES, *CLOUDS]:
        (HERE / f"golden/{each}.yaml").write_text(golden(each))
