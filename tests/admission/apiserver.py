"""See apiserver, which runs this."""

import atexit
import copy
import json
import pathlib
import subprocess
import sys

import yaml

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CRD_FILE = ROOT / "crds/websocketroutes.tidegate.io.yaml"
CRD = "customresourcedefinition/websocketroutes.tidegate.io"
VERDICTS = HERE / "verdicts.tsv"
HEADER = "case\tthe API server\ttidegate check"
URL = "/apis/tidegate.io/v1alpha1/namespaces/default/websocketroutes?dryRun=All&fieldValidation=Strict"


def kubectl(*arguments, text=None):
    command = ["kubectl", "--request-timeout=30s", *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=120, check=False)


def must(result):
    if result.returncode:
        sys.exit(f"{' '.join(map(str, result.args))} failed:\n{result.stdout}{result.stderr}")
    return result.stdout


def parent(node, pointer):
    *way, last = pointer.split("/")[1:]
    for step in way:
        node = node[int(step)] if isinstance(node, list) else node[step]
    return node, last


def build(base, case):
    route = copy.deepcopy(base)
    for pointer in case.get("remove", []):
        node, key = parent(route, pointer)
        del node[key]
    for pointer, value in sorted(case.get("set", {}).items()):
        node, key = parent(route, pointer)
        node[key] = value
    return route


def verdict(route):
    result = kubectl("create", "--raw", URL, "--filename=-", text=json.dumps(route))
    if result.returncode == 0:
        return "accepted"
    words = " ".join(result.stderr.split())
    if "Error from server" not in words and " is invalid: " not in words:
        sys.exit(f"no answer from the API server: {words}")
    return f"refused: {words}"


def main():
    corpus = yaml.safe_load((HERE / "cases.yaml").read_text())
    rows = [line.split("\t") for line in VERDICTS.read_text().splitlines()[1:]] if VERDICTS.exists() else []
    recorded = {row[0]: row[1:] for row in rows}
    # Where there is none yet it goes again: Helm would not install over one that is not its own.
    if kubectl("get", CRD).returncode:
        atexit.register(lambda: must(kubectl("delete", CRD, "--timeout=60s")))
    must(kubectl("apply", "--server-side", "--force-conflicts", f"--filename={CRD_FILE}"))
    must(kubectl("wait", "--for=condition=Established", "--timeout=30s", CRD))
    # Established comes a moment before the kind is served.
    deadline = 150
    while kubectl("get", "--raw", "/apis/tidegate.io/v1alpha1").returncode or kubectl("get", "wsr").returncode:
        deadline -= 1
        if not deadline:
            sys.exit("the API server does not serve WebSocketRoutes")
    table, wrong = [HEADER], []
    for case in corpus["cases"]:
        said = verdict(build(corpus["base"], case))
        before, ours = (recorded.get(case["case"], []) + ["", ""])[:2]
        table.append(f"{case['case']}\t{said}\t{ours}")
        # The words of another version may differ; what becomes of the route may not.
        if said.startswith("accepted") != case["accepted"]:
            wrong.append(f"{case['case']}: cases.yaml has accepted: {str(case['accepted']).lower()}; the API server: {said}")
        elif said.split(":")[0] != before.split(":")[0] and "--update" not in sys.argv:
            wrong.append(f"{case['case']}: verdicts.tsv says {before!r}; the API server: {said}")
    if "--update" in sys.argv:
        VERDICTS.write_text("\n".join(table) + "\n")
    if wrong:
        sys.exit("\n".join(wrong))
    print(f"the API server says of {len(table) - 1} routes what cases.yaml expects")


if __name__ == "__main__":
    main()
