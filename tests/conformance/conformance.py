"""Runs the Autobahn case files with and without Tidegate in between, and compares the verdicts.

A WebSocket gateway must be invisible: whatever an endpoint does right or wrong has to look the
same from the other side. So nothing here asks whether Tidegate "passes" the cases: each case is
run directly first, and its verdicts (`behavior`, `behaviorClose`) are then demanded again through
Tidegate's TLS port and through its plain port.

Two modes, as the suite has them:

  server  the suite is the client, `tidegate echo-backend` (tokio-tungstenite) the server
  client  the suite is the server, an echo client (the websockets package) talks to it

What keeps a broken run from passing: the number of cases is fixed below, so are the cases in which
the endpoints themselves are known to err, and Tidegate's own metrics must have counted every
connection and hold none open at the end.
"""

import argparse
import asyncio
import base64
import contextlib
import functools
import json
import os
import pathlib
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request

# Some cases send a message in 65,536 fragments; the echo client shall take them all.
os.environ["WEBSOCKETS_MAX_FRAGMENTS"] = "1000000"

import websockets  # noqa: E402 (it reads the line above when it is imported)
from kosoku import FailureError, run_fuzzingclient, run_fuzzingserver  # noqa: E402
from websockets.asyncio.client import connect  # noqa: E402

# The name of the only hostname that resolves everywhere; certificate, SNI and Host carry it.
NAME = "localhost"

# All cases of the suite. The echo server does not compress: to the 216 compression cases
# (12.* and 13.*) its answer is "unimplemented", and it must stay so through Tidegate.
SERVER_CASES = 517

# The echo client compresses. Each of the 216 compression cases moves 1,000 messages, of up to
# 128 KiB in the variants 7 to 18: about four minutes a leg of zlib's time and not Tidegate's.
# Of these variants 11 is kept (8 KiB in fragments of 256 bytes), in the groups 12.1 and 13.1.
CLIENT_EXCLUDE = [
    f"{group}.{variant}"
    for group in [f"12.{n}" for n in range(1, 6)] + [f"13.{n}" for n in range(1, 8)]
    for variant in range(7, 19)
    if not (variant == 11 and group in ("12.1", "13.1"))
]
CLIENT_CASES = SERVER_CASES - len(CLIENT_EXCLUDE)

# Where an endpoint itself errs, without Tidegate. Anything else that fails directly is a fault
# of the set-up, and the run stops there: a comparison with it would be worth nothing.
# 7.1.5: a Close in the middle of a fragmented message; the websockets package answers 1002.
KNOWN_DIRECT_FAILURES = {"server": set(), "client": {"7.1.5"}}

CONCURRENCY = 4
LEG_DEADLINE = 300.0
START_DEADLINE = 30.0
STOP_DEADLINE = 20.0
VARIATION_RUNS = 40
VARIATION_SECONDS = 60.0


class Failure(Exception):
    """Ends the run; the message says what to look at."""


def say(text):
    print(text, flush=True)


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


async def poll(what, check, deadline):
    """Asks `check` until it answers something true."""
    end = time.monotonic() + deadline
    while True:
        answer = await asyncio.to_thread(check)
        if answer:
            return answer
        if time.monotonic() > end:
            raise Failure(f"{what}: not within {deadline:.0f} s")
        await asyncio.sleep(0.05)


def accepts(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def http_get(port, path):
    """The body of a 200 answer, else None."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
            return answer.read().decode() or " "
    except (urllib.error.URLError, OSError):
        return None


@contextlib.asynccontextmanager
async def process(name, command, log, ready):
    """Runs a process until the block ends; it must come up, and go down on SIGTERM."""
    with open(log, "wb") as output:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )

    def up():
        if child.poll() is not None:
            raise Failure(f"{name} ended with {child.returncode} at its start{tail(log)}")
        return ready()

    try:
        try:
            await poll(f"{name} to be ready", up, START_DEADLINE)
        except Failure as failure:
            raise Failure(f"{failure}{tail(log)}" if child.poll() is None else failure) from None
        yield
        if child.poll() is not None:
            raise Failure(f"{name} died during the run with {child.returncode}{tail(log)}")
        child.send_signal(signal.SIGTERM)
        try:
            await asyncio.to_thread(child.wait, STOP_DEADLINE)
        except subprocess.TimeoutExpired:
            raise Failure(f"{name} still ran {STOP_DEADLINE:.0f} s after SIGTERM{tail(log)}") from None
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()


def tail(log, lines=20):
    text = pathlib.Path(log).read_text(errors="replace").splitlines()
    return f"; the end of {log}:\n  " + "\n  ".join(text[-lines:])


def make_certificate(work):
    """A CA and a certificate for NAME, good for two days."""
    common = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
              "-nodes", "-days", "2"]  # fmt: skip
    for arguments in (
        ["-subj", "/CN=Tidegate conformance CA", "-keyout", "ca.key", "-out", "ca.crt"],
        ["-CA", "ca.crt", "-CAkey", "ca.key", "-subj", f"/CN={NAME}", "-keyout", "tls.key",
         "-out", "tls.crt", "-addext", f"subjectAltName=DNS:{NAME}",
         "-addext", "basicConstraints=critical,CA:FALSE"],
    ):  # fmt: skip
        done = subprocess.run(common + arguments, cwd=work, capture_output=True, text=True)
        if done.returncode:
            raise Failure(f"openssl could not make the test certificate:\n{done.stderr}")


def write_manifests(folder, work, mode, backend_port):
    """The route under test, in the folder that `tidegate serve --source` reads.

    Tidegate pings the echo endpoint all the time: the suite must see nothing of that. (The suite itself
    is not pinged: it takes every ping that a case does not expect for a fault.)
    """
    pings = {"server": {"backendPing": "10ms"}, "client": {"clientPing": "10ms"}}[mode]
    pings = {"clientPing": "0s", "backendPing": "0s", **pings}

    def encoded(name):
        return base64.b64encode((work / name).read_bytes()).decode()

    def meta(name, **more):
        return {"name": name, "namespace": "conformance", **more}

    documents = [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": meta("site"),
            "data": {"tls.crt": encoded("tls.crt"), "tls.key": encoded("tls.key")},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": meta("echo"),
            "spec": {"ports": [{"name": "ws", "port": 80, "targetPort": backend_port}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "addressType": "IPv4",
            "metadata": meta("echo-1", labels={"kubernetes.io/service-name": "echo"}),
            "ports": [{"name": "ws", "port": backend_port, "protocol": "TCP"}],
            "endpoints": [
                {"addresses": ["127.0.0.1"], "conditions": {"ready": True, "serving": True}}
            ],
        },
        {
            "apiVersion": "tidegate.io/v1alpha1",
            "kind": "WebSocketRoute",
            "metadata": meta("echo"),
            "spec": {
                "hostnames": [NAME],
                "tls": {"secretName": "site"},
                "plaintext": "Allow",
                "rules": [{"backendRefs": [{"name": "echo", "port": 80}], "keepalive": pings}],
            },
        },
    ]
    folder.mkdir()
    # JSON is YAML.
    (folder / "route.yaml").write_text("\n---\n".join(json.dumps(each) for each in documents))


def connection_metric(admin_port, metric):
    """The sum over the labels of one of Tidegate's metrics."""
    text = http_get(admin_port, "/metrics")
    if text is None:
        raise Failure("Tidegate's /metrics does not answer")
    values = re.findall(rf"^{metric}(?:\{{[^}}]*\}})? ([0-9.e+]+)$", text, re.MULTILINE)
    return sum(float(value) for value in values)


@contextlib.asynccontextmanager
async def gateway(binary, work, mode, backend_port):
    """Tidegate before the backend at `backend_port`; gives its (https, http) ports."""
    https, http, admin = free_ports(3)
    manifests = work / f"{mode}-manifests"
    write_manifests(manifests, work, mode, backend_port)
    command = [binary, "serve", "--source", str(manifests), "--workers", "2",
               "--https-listen", f"127.0.0.1:{https}", "--http-listen", f"127.0.0.1:{http}",
               "--admin-listen", f"127.0.0.1:{admin}",
               "--drain-delay", "0s", "--drain-spread", "0s", "--drain-timeout", "5s"]  # fmt: skip
    log = work / f"{mode}-tidegate.log"
    seen = {"legs": 0}

    async def check_leg(cases):
        """After a leg: all its connections went through Tidegate, and all have ended. With 0 it
        counts from here on."""
        total = await asyncio.to_thread(connection_metric, admin, "tidegate_connections_total")
        through = total - seen["legs"]
        seen["legs"] = total
        if through < cases:
            raise Failure(f"{cases} cases, but Tidegate counted {through:.0f} connections")
        await poll(
            "tidegate_connections_open to be 0 after the last case",
            lambda: connection_metric(admin, "tidegate_connections_open") == 0,
            STOP_DEADLINE,
        )

    async with process("tidegate serve", command, log, lambda: http_get(admin, "/readyz")):
        yield https, http, check_leg


@contextlib.asynccontextmanager
async def tls_shim(port, ca):
    """The suite's client speaks no TLS: a local port whose bytes go through TLS to `port`."""
    context = ssl.create_default_context(cafile=ca)
    running = set()

    async def pump(reader, writer):
        with contextlib.suppress(OSError, ssl.SSLError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def connection(reader, writer):
        running.add(asyncio.current_task())
        try:
            there = await asyncio.open_connection(
                "127.0.0.1", port, ssl=context, server_hostname=NAME
            )
        except (OSError, ssl.SSLError) as error:
            say(f"  TLS to Tidegate failed: {error}")
            writer.close()
            return
        await asyncio.gather(pump(reader, there[1]), pump(there[0], writer))

    server = await asyncio.start_server(connection, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
        # The suite has hung up everywhere; Tidegate must do so, too.
        _, hanging = await asyncio.wait(running, timeout=STOP_DEADLINE) if running else ((), ())
        if hanging:
            raise Failure(f"{len(hanging)} connections to Tidegate do not end")
    finally:
        server.close()


async def suite_results(running):
    """The suite raises where a case fails; here a failing case is a verdict like others."""
    try:
        return await running
    except FailureError as failure:
        return failure.results


async def drive_server(url, cases=None):
    """Mode server: the cases against the server at `url`."""
    return await suite_results(run_fuzzingclient(url, cases, None, concurrency=CONCURRENCY))


async def drive_client(server, base, context):
    """Mode client: the echo client runs all cases that the suite's server at `base` offers."""

    def open_case(path):
        return connect(
            base + path,
            ssl=context,
            proxy=None,
            max_size=(None, None),
            open_timeout=20,
            ping_interval=None,
            user_agent_header="echo-client",
        )

    async with open_case("/getCaseCount") as session:
        count = int(await session.recv())
    pending = iter(range(1, count + 1))

    async def worker():
        for number in pending:
            try:
                async with open_case(f"/runCase?case={number}&agent=echo-client") as session:
                    async for message in session:
                        await session.send(message)
            except (OSError, websockets.WebSocketException):
                pass  # the suite's verdict tells; many cases end with a violation

    await asyncio.gather(*(worker() for _ in range(CONCURRENCY)))
    # The end of the run; the suite hangs up after it, not always with a Close.
    with contextlib.suppress(websockets.ConnectionClosed):
        async with open_case("/updateReports?agent=echo-client") as session:
            async for _ in session:
                pass
    return await suite_results(server.get_result())


def verdicts_of(results):
    return {r.case_id: (r.behavior.value, r.behavior_close.value) for r in results}


async def leg(name, running, expected):
    """One run of all cases: {case: (behavior, behaviorClose)}."""
    start = time.monotonic()
    try:
        verdicts = verdicts_of(await asyncio.wait_for(running, LEG_DEADLINE))
    except TimeoutError:
        raise Failure(f"{name}: not done within {LEG_DEADLINE:.0f} s") from None
    if len(verdicts) != expected:
        raise Failure(f"{name}: {len(verdicts)} cases ran, {expected} were to run")
    counts = {}
    for behavior, _ in verdicts.values():
        counts[behavior] = counts.get(behavior, 0) + 1
    summary = ", ".join(f"{count} {label}" for label, count in sorted(counts.items()))
    say(f"  {name}: {len(verdicts)} cases in {time.monotonic() - start:.1f} s ({summary})")
    return verdicts


def conformant(verdict):
    return all(part in ("OK", "NON-STRICT", "INFORMATIONAL", "UNIMPLEMENTED") for part in verdict)


def check_direct(mode, verdicts):
    failing = {case for case, verdict in verdicts.items() if not conformant(verdict)}
    surprising = failing - KNOWN_DIRECT_FAILURES[mode]
    if surprising:
        raise Failure(
            f"the echo {mode} fails without Tidegate: "
            + ", ".join(f"{case} {'/'.join(verdicts[case])}" for case in sorted(surprising))
        )


async def varying(direct, differing, directly, through_tidegate):
    """Which of the differing cases hang on timing: the two ways can give the same verdict.

    Where a violation follows a good message, the echo of that message is a race between the endpoint's
    write and its hanging up (OK or NON-STRICT, both conformant). `differing` is {case: verdict through
    Tidegate}; a case is explained only by a further run that shows the other way's very verdict:
    a change that Tidegate makes each time is never explained, nor is a verdict that is not conformant.
    """
    explained = set()
    open_cases = {c for c, v in differing.items() if conformant(v) and conformant(direct[c])}
    end = time.monotonic() + VARIATION_SECONDS
    for _ in range(VARIATION_RUNS):
        if not open_cases or time.monotonic() > end:
            break
        # Their neighbours, too: the load is part of the timing.
        groups = sorted({case.rsplit(".", 1)[0] + ".*" for case in open_cases})
        for again, wanted in ((directly, differing), (through_tidegate, direct)):
            seen = verdicts_of(await asyncio.wait_for(again(groups), LEG_DEADLINE))
            explained |= {case for case in open_cases if seen.get(case) == wanted[case]}
        open_cases -= explained
    return explained


async def compare(mode, through, direct, verdicts, directly, through_tidegate):
    """Prints the differing cases and the count; true if there are none."""
    differing = {case: verdicts[case] for case in direct if verdicts[case] != direct[case]}
    explained = await varying(direct, differing, directly, through_tidegate)
    for case, verdict in differing.items():
        say(f"  {case}: direct {' / '.join(direct[case])}, "
            f"through Tidegate {' / '.join(verdict)}"
            + (" (a race: a further run showed them equal)" if case in explained else ""))  # fmt: skip
    failed = len(differing) - len(explained)
    say(f"{mode} mode through {through}: {len(direct) - failed} passed, {failed} failed")
    return not failed


async def server_mode(binary, work):
    say(f"Mode server: the suite drives the echo server, {SERVER_CASES} cases")
    (port,) = free_ports(1)
    command = [binary, "echo-backend", "--listen", f"127.0.0.1:{port}"]
    log = work / "server-echo.log"
    equal = []
    async with process("tidegate echo-backend", command, log, lambda: accepts(port)):

        def directly(cases=None):
            return drive_server(f"ws://{NAME}:{port}/", cases)

        direct = await leg("direct", directly(), SERVER_CASES)
        check_direct("server", direct)
        async with gateway(binary, work, "server", port) as (https, http, check_leg):
            async with tls_shim(https, work / "ca.crt") as shim:
                for through, at in (("wss", shim), ("ws", http)):
                    through_tidegate = functools.partial(drive_server, f"ws://{NAME}:{at}/")
                    seen = await leg(through, through_tidegate(), SERVER_CASES)
                    await check_leg(SERVER_CASES)
                    equal.append(
                        await compare("server", through, direct, seen, directly, through_tidegate)
                    )
                    await check_leg(0)
    return equal


async def client_mode(binary, work):
    say(f"Mode client: an echo client drives itself against the suite, {CLIENT_CASES} cases")
    trusting = ssl.create_default_context(cafile=work / "ca.crt")
    (port,) = free_ports(1)
    equal = []

    async def drive(base, context, cases=None):
        # A suite server serves one run; they all take Tidegate's backend port, one by one.
        async with run_fuzzingserver(cases, CLIENT_EXCLUDE, host="127.0.0.1", port=port) as server:
            return await drive_client(server, base, context)

    def directly(cases=None):
        return drive(f"ws://{NAME}:{port}", None, cases)

    direct = await leg("direct", directly(), CLIENT_CASES)
    check_direct("client", direct)
    async with gateway(binary, work, "client", port) as (https, http, check_leg):
        for through, base, context in (
            ("wss", f"wss://{NAME}:{https}", trusting),
            ("ws", f"ws://{NAME}:{http}", None),
        ):
            through_tidegate = functools.partial(drive, base, context)
            seen = await leg(through, through_tidegate(), CLIENT_CASES)
            await check_leg(CLIENT_CASES)
            equal.append(await compare("client", through, direct, seen, directly, through_tidegate))
            await check_leg(0)
    return equal


async def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tidegate", required=True, help="the binary under test")
    parser.add_argument("--work", required=True, type=pathlib.Path, help="an empty folder for logs")
    parser.add_argument("--mode", choices=["server", "client"], action="append", help="default: both")
    options = parser.parse_args()
    equal = []
    try:
        make_certificate(options.work)
        for mode in options.mode or ["server", "client"]:
            run = {"server": server_mode, "client": client_mode}[mode]
            equal += await run(options.tidegate, options.work)
    except Failure as failure:
        sys.exit(f"conformance: {failure}")
    if not all(equal):
        sys.exit(f"conformance: Tidegate changed verdicts, see above; logs are in {options.work}")


asyncio.run(main())
