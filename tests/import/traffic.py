"""The traffic of a real nginx with the source, beside that of Tidegate with what was imported from it. See `run`.

For each case of cases/ that has an nginx.conf: nginx with it (for Ingresses: with what their controller makes of them) listens on 80 and
443 of this namespace, Tidegate with the imported manifests on 1080 and 1443, and both reach the same small backends at the very addresses
that the source names. For each hostname, each path of the source and its neighbours, both ports, both an upgrade and a plain request are
sent to both. What comes of it must be the same, but for the differences below, each of which has to occur.
"""

import asyncio
import collections
import contextlib
import json
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import backend
import client
from differences import DIFFERENCES, Probe

HERE = pathlib.Path(__file__).parent
CASES = HERE / "cases"
HTTPS, HTTP = 1443, 1080

# Cases without traffic, and why.
WITHOUT = {
    "guarded": "needs modules that are not in every nginx; it is about what is noted",
    "ingress-guarded": "what it shows are its notes; nothing of it can be served without a login",
}

# Paths beyond those that stand in the source.
MORE_PATHS = {
    "jupyter": ["/user/ann/api/kernels/7/channels", "/user/ann/terminals/websocket/1", "/hub/login"],
    "ingress-hash": ["/room/blue", "/lobby/", "/v2/room"],
    "socketio": ["/socket.io/?EIO=4&transport=websocket", "/static/app.js"],
    "whole-site": ["/live/a", "/feed/b", "/api/c"],
}

# Requests that differ in one thing must come to one backend where it is the same, and to all where it varies.
STICKY = {
    "rooms": ("rooms.example.com", "/room/x?room={}", ()),
    "ingress-hash": ("rooms.example.com", "/room/x?room={}", ()),
    "socketio": ("io.example.com", "/socket.io/?n={}", ()),
    "ingress-affinity": ("chat.example.com", "/ws?n={}", ()),
}
# Those whose key is the client's address, of which there is one here.
BY_ADDRESS = {"socketio", "ingress-affinity"}

NAMES = ["*.example.com", "*.rt.example.com", "*.example.org", "*.example.net"]
UNKNOWN = "unknown.example.com"
TIMEOUT = 30


def say(text):
    print(f"import: {text}", flush=True)


class Case:
    """One case, with everything that runs for it in a temporary folder."""

    def __init__(self, name, work, binary, certificate):
        self.name, self.work, self.binary = name, work, binary
        self.folder = CASES / name
        self.certificate = certificate
        self.source = work / "source"
        self.manifests = work / "manifests"
        self.prepare()
        self.bring_in()
        self.groups = self.endpoints()

    def prepare(self):
        """A copy of the source, whose folders and certificates are the test's own."""
        shutil.copytree(self.folder, self.source)
        own = {
            "/etc/nginx/": f"{self.source}/",
            "/etc/ssl/": f"{self.work}/tls/",
            "/etc/letsencrypt/": f"{self.work}/tls/",
            "/etc/ingress-controller/": f"{self.work}/tls/",
            "/var/log/nginx/": f"{self.work}/",
        }
        for file in self.source.rglob("*"):
            if file.is_dir() or file.suffix in (".yaml", ".txt"):
                continue
            text = file.read_text()
            for usual, here in own.items():
                text = text.replace(usual, here)
            # Of the process, which is the test's.
            text = re.sub(r"(?m)^(pid|user) .*;$", "", text)
            here = f"access_log off; client_body_temp_path {self.work}/body; proxy_temp_path {self.work}/proxy;"
            text = text.replace("http {", f"http {{ {here}", 1)
            file.write_text(text)
            for kind, path in re.findall(r"ssl_certificate(_key|) ([^;]+);", text):
                target = pathlib.Path(path)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(self.certificate[1 if kind else 0], target)
        (self.source / "mime.types").touch()

    def bring_in(self):
        """Imports the copy as a user would, and puts what is in the cluster beside it."""
        ingress = (self.source / "ingress.yaml").exists()
        files = ["ingress.yaml", "cluster.yaml"] if ingress else ["nginx.conf"]
        first = (self.source / files[0]).read_text()
        asked = re.findall(r"(?m)^# import: (.*)$", first)
        command = [self.binary, "import", *files, *" ".join(asked).split(), "--secrets", "--output", self.manifests]
        done = subprocess.run(command, cwd=self.source, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"import: {self.name}: the import failed:\n{done.stderr}")
        self.routes = (self.manifests / "routes.yaml").read_text()
        if not ingress:
            return
        shutil.copy(self.source / "cluster.yaml", self.manifests)
        # cert-manager or the user has made these.
        documents = []
        for route in self.routes.split("\n---\n"):
            secret = re.search(r"secretName: (\S+)", route)
            if secret:
                namespace = re.search(r"(?m)^  namespace: (\S+)", route)[1]
                data = {"tls.crt": self.certificate[0].read_text(), "tls.key": self.certificate[1].read_text()}
                metadata = {"name": secret[1], "namespace": namespace}
                documents.append(
                    json.dumps({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": metadata, "stringData": data})
                )
        (self.manifests / "tls.yaml").write_text("\n---\n".join(dict.fromkeys(documents)))

    def endpoints(self):
        """The Service of each address in the manifests."""
        groups = {}
        for file in self.manifests.glob("*.yaml"):
            for document in re.split(r"(?m)^---$", file.read_text()):
                if "kind: EndpointSlice" not in document:
                    continue
                service = re.search(r"service-name: ([\w-]+)", document)[1]
                port = re.search(r"ports:.*?port: (\d+)", document, re.DOTALL)[1]
                for address in re.findall(r'addresses: \["?([^"\]]+)', document):
                    # Several Services of one upstream are its weights.
                    groups[f"{address}:{port}"] = re.sub(r"-weight-\d+$", "", service)
        return groups

    def addresses(self):
        """All that the source or the manifests name: also what is down, or only a backup."""
        text = "\n".join(file.read_text() for file in self.source.rglob("*") if file.is_file())
        named = re.findall(r"(?:server|http://)\s*((?:10|127)\.[\d.]+:\d+)", text)
        return sorted({*self.groups, *named})

    def hostnames(self):
        found = {}
        for hosts in re.findall(r"hostnames: \[(.*)\]", self.routes):
            for host in re.findall(r'[^",\s]+', hosts):
                if host.startswith("*."):
                    found |= dict.fromkeys([f"a{host[1:]}", f"b.c{host[1:]}"])
                else:
                    found[host] = None
        return [*found, UNKNOWN]

    def paths(self):
        conf = "\n".join(
            file.read_text() for file in self.source.rglob("*") if file.is_file() and file.suffix not in (".yaml", ".txt")
        )
        named = set(re.findall(r"location (?:= |\^~ )?(/[^\s{]*)", conf)) | set(re.findall(r"value: (/[^}]*)}", self.routes))
        found = {"/": None, "/nothing": None}
        for path in sorted(named):
            stem = path.rstrip("/")
            found |= dict.fromkeys([path, f"{stem}/", f"{stem}/deeper?a=b"] + ([stem, f"{stem}x"] if stem else []))
        return [*found, *MORE_PATHS.get(self.name, [])]

    def group(self, answer):
        return self.groups.get(answer.backend, answer.backend)


@contextlib.contextmanager
def running(command, work, name, ready):
    """A program, until the end of the block; `ready` is what it does when it serves."""
    with (work / f"{name}.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=work)
    try:
        deadline = time.monotonic() + TIMEOUT
        while not ready(work / f"{name}.log"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"import: {name} does not serve:\n{(work / f'{name}.log').read_text()}")
            time.sleep(0.02)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def accepts(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def outcome(case, answer):
    """What is compared: the status, which backends were reached and with which path and host, the subprotocol."""
    if answer.backend:
        parts = [answer.outcome, case.group(answer), answer.path, answer.host, answer.subprotocol]
        return " ".join(part or "-" for part in parts)
    if answer.location:
        return f"{answer.outcome} {answer.location}"
    return answer.outcome


def compare(case, found):
    """All requests of a case. Returns how many were sent and the differences that nothing explains."""
    sent, wrong = 0, []
    for host in case.hostnames():
        # A name that nobody has is answered alike whatever is asked for.
        for path in case.paths()[: 3 if host == UNKNOWN else None]:
            for tls in (True, False):
                for upgrade in (True, False):
                    subprotocol = "graphql-transport-ws, mqtt" if upgrade and tls else ""
                    ask = [host, path, upgrade, subprotocol]
                    old = client.ask(443 if tls else 80, tls, *ask)
                    new = client.ask(HTTPS if tls else HTTP, tls, *ask)
                    sent += 2
                    pair = outcome(case, old), outcome(case, new)
                    if pair[0] == pair[1]:
                        continue
                    probe = Probe(case.name, host, path, tls, upgrade, old, new, *pair, case.group(old) == case.group(new))
                    reason = next((name for name, (fits, _) in DIFFERENCES.items() if fits(probe)), None)
                    if reason:
                        found[reason] += 1
                    else:
                        what = "upgrade" if upgrade else "GET"
                        scheme = "https" if tls else "http"
                        wrong.append(f"{case.name}: {what} {scheme}://{host}{path}: nginx {pair[0]}, Tidegate {pair[1]} {new.reason}")
    return sent, wrong


def stick(case):
    """Whether what is the same goes to one backend, and what differs to all."""
    host, path, extra = STICKY[case.name]
    wrong = []
    for program, port in (("nginx", 443), ("Tidegate", HTTPS)):
        same = {client.ask(port, True, host, path.format("blue"), True, "", extra).backend for _ in range(8)}
        if len(same) != 1:
            wrong.append(f"{case.name}: {program} spreads one key over {same}")
        other = {client.ask(port, True, host, path.format(number), True, "", extra).backend for number in range(40)}
        wanted = 1 if case.name in BY_ADDRESS else len(case.groups)
        if len(other) != wanted:
            wrong.append(f"{case.name}: {program} takes 40 keys to {other}, not to {wanted} backends")
    return wrong


def share(case):
    """By weights: three of four connections to those of weight 3, and none to what is down or a backup."""
    wrong = []
    for program, port in (("nginx", 443), ("Tidegate", HTTPS)):
        counts = collections.Counter(client.ask(port, True, "chat.example.com", "/chat/", True).backend for _ in range(200))
        heavy = counts["10.90.0.1:3000"] + counts["10.90.0.2:3000"]
        if not 120 <= heavy <= 175 or set(counts) - set(case.groups):
            wrong.append(f"weights: {program} shares out {dict(counts)}")
    return wrong


def serve(addresses):
    """The backends, in a thread that ends with the program."""
    for address in sorted({address.rpartition(":")[0] for address in addresses}):
        if address.startswith("10."):
            subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=False, capture_output=True)
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    pairs = [(address.rpartition(":")[0], int(address.rpartition(":")[2])) for address in addresses]
    servers = asyncio.run_coroutine_threadsafe(backend.serve(pairs), loop).result(TIMEOUT)

    async def close():
        for server in servers:
            server.close()

    return lambda: asyncio.run_coroutine_threadsafe(close(), loop).result(TIMEOUT)


def run(case, found):
    close = serve(case.addresses())
    listens = case.source / "nginx.conf"
    ports = [443] if re.search(r"listen .*443", "".join(f.read_text() for f in case.source.rglob("*") if f.is_file())) else [80]
    nginx = ["nginx", "-p", case.work, "-c", listens, "-e", case.work / "error.log"]
    nginx += ["-g", f"daemon off; pid {case.work}/nginx.pid;"]
    tidegate = [case.binary, "serve", "--source", case.manifests, "--admin-listen", "off", "--workers", "1"]
    tidegate += ["--https-listen", f"127.0.0.1:{HTTPS}", "--http-listen", f"127.0.0.1:{HTTP}"]
    tidegate += ["--drain-delay", "0s", "--drain-spread", "0s", "--drain-timeout", "5s"]

    def ready(log):
        return "ready" in log.read_text()

    try:
        with running(nginx, case.work, "nginx", lambda _: all(accepts(port) for port in ports)):
            with running(tidegate, case.work, "tidegate", ready):
                sent, wrong = compare(case, found)
                if case.name in STICKY:
                    wrong += stick(case)
                if case.name == "weights":
                    wrong += share(case)
    finally:
        close()
    return sent, wrong


def make_certificate(work):
    names = ",".join(f"DNS:{name}" for name in NAMES)
    paths = work / "certificate.pem", work / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=import test", "-addext", f"subjectAltName={names}", "-out", paths[0], "-keyout", paths[1]]
    subprocess.run(command, check=True, capture_output=True)
    return paths


def main():
    binary, *wanted = sys.argv[1:]
    names = sorted(path.name for path in CASES.iterdir())
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    found, failures, total = collections.Counter(), [], 0
    with tempfile.TemporaryDirectory(prefix="tidegate-import-") as folder:
        folder = pathlib.Path(folder)
        # nginx's workers are another user.
        folder.chmod(0o755)
        certificate = make_certificate(folder)
        for name in wanted or names:
            if name in WITHOUT:
                say(f"{name}: no traffic: {WITHOUT[name]}")
                continue
            (folder / name).mkdir()
            sent, wrong = run(Case(name, folder / name, binary, certificate), found)
            say(f"{name}: {sent} requests, {'the same traffic' if not wrong else f'{len(wrong)} differences'}")
            total += sent
            failures += wrong
    for name, (_, reason) in DIFFERENCES.items():
        say(f"differs on purpose, {found[name]} times: {name}: {reason}")
        if not found[name] and not wanted:
            failures.append(f"the difference {name!r} does not occur any more: take it out of differences.py")
    for failure in failures:
        say(failure)
    say(f"{total} requests in all, {'passed' if not failures else f'{len(failures)} FAILED'}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
