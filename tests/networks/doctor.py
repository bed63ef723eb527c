"""Asks the doctor from the client's network, and compares what it and the gateway say with what is expected."""

import json
import os
import subprocess

import expected
from box import PROXY
from lab import Failure, check

DEADLINE = 90
ADDRESSES = {
    expected.PROXY: f"http://proxy.lab.test:{PROXY}",
    expected.LOGIN: f"http://ada:secret@proxy.lab.test:{PROXY}",
    expected.WRONG_LOGIN: f"http://ada:wrong@proxy.lab.test:{PROXY}",
    expected.NO_PROXY: "http://proxy.lab.test:9",
}
VARIABLES = ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"]


def trust(lab, corporate):
    """The file of the authorities that the client's system trusts."""
    settings = lab.settings
    authorities = [settings.authority] + ([settings.corporate] if corporate else [])
    return lab.write("trust.pem", "".join(path.read_text(encoding="utf-8") for path in authorities))


def examine(lab, case):
    """What the doctor prints, as JSON, and its exit code."""
    words = [str(lab.settings.tidegate), "doctor", case.url, "--json", "--ca", str(lab.settings.authority)]
    words += [ADDRESSES.get(word, word) for word in case.arguments]
    environment = {name: value for name, value in os.environ.items() if name.upper() not in VARIABLES}
    environment["SSL_CERT_FILE"] = str(trust(lab, case.corporate))
    environment |= {name: ADDRESSES.get(value, value) for name, value in case.environment}
    command = ["nsenter", f"--net={lab.client.path}", *words]
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    try:
        return json.loads(done.stdout), done.returncode
    except ValueError:
        raise Failure(f"no JSON (exit {done.returncode}): {done.stdout[-500:]}{done.stderr[-1500:]}") from None


def request_ids(said, step):
    """The ids under which the gateway answered these steps: what a ticket has to have, to be found in the gateway's log."""
    answers = [each["seen"]["answer"] for each in said["steps"] if each["step"] == step]
    headers = [dict(answer["headers"]) for answer in answers if answer]
    return {found["x-request-id"] for found in headers if "x-request-id" in found}


def faults(case, said, code, seen):
    """What is not as expected, sentence by sentence."""
    diagnoses = said["diagnoses"]
    found = tuple(sorted((each["code"], each["box"]) for each in diagnoses))
    if found != tuple(sorted(case.says)):
        yield f"it diagnoses {found}, not {case.says}"
    if code != case.exit or said["exit_code"] != code:
        yield f"its exit code is {code}, told as {said['exit_code']}, not {case.exit}"
    for each in diagnoses:
        empty = [part for part in ("evidence", "who", "how") if not each[part]]
        if empty:
            yield f"{each['code']} lacks {empty}"
    unknown = request_ids(said, "upgrade") - {line.get("request_id") for line in seen.lines}
    if unknown:
        yield f"it tells the request ids {unknown}, which the gateway's log does not have"
    # The plain GET by which the doctor may find out who answered is none of the box's.
    asked = request_ids(said, "get")
    refused = [line for line in seen.lines if line.get("event") == "refused" and line["request_id"] not in asked]
    reasons = {line["reason"] for line in refused}
    if reasons != case.refused or set(seen.refused) != seen.logged("refused", "reason"):
        yield f"the gateway counted {seen.refused} and logged {reasons}, not {set(case.refused)}"
    if set(seen.closed) != case.closed or seen.logged("close", "cause") != case.closed:
        yield f"the gateway's connections ended by {seen.closed}, not {set(case.closed)}"
    if bool(seen.granted) != bool(case.closed):
        yield f"the gateway granted {seen.granted} upgrades"
    for field, value in case.way:
        if any(line.get(field) != value for line in refused):
            yield f"the gateway's log has {field}={[line.get(field) for line in refused]}, not {value}"
    if case.cut:
        times = [step["seen"]["after_ms"] / 1000 for step in said["steps"] if step["step"] == "idle"]
        if not times or not all(case.cut[0] <= time <= case.cut[1] for time in times):
            yield f"it saw the quiet connection cut after {times} s"


def ask(lab, name):
    for case in expected.EXPECTED[name]:
        try:
            with lab.watch(case.left_open) as seen:
                said, code = examine(lab, case)
        except Failure as failure:
            raise Failure(f"{case}: {failure}") from None
        wrong = list(faults(case, said, code, seen[0]))
        if wrong:
            lab.write("doctor.log", json.dumps(said, indent=1))
        check(not wrong, f"{case}: " + "; ".join(wrong))
