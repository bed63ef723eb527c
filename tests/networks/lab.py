"""The laboratory: three network namespaces in a row, what runs in them, and what the gateway says of it.

    client 192.0.2.2 ── 192.0.2.1 box 198.51.100.1 ── 198.51.100.2 server

The box routes between the two sides; what else it does is its class's to say (boxes.py). Everything is within the namespaces that
networks.py has gone into before, so that the machine's own network, its mounts and its processes see nothing of it.
"""

import contextlib
import ctypes
import json
import os
import pathlib
import signal
import subprocess
import threading
import time
import urllib.request

CLIENT, BOX, FAR_SIDE, SERVER = "192.0.2.2", "192.0.2.1", "198.51.100.1", "198.51.100.2"
# GATEWAY is the server by its own address, FRONT the box that stands in its place.
GATEWAY, FRONT = "gateway.lab.test", "front.lab.test"
HOSTS = f"127.0.0.1 localhost\n{SERVER} {GATEWAY}\n{BOX} {FRONT} proxy.lab.test\n"

HTTPS, HTTP, DEVELOPMENT, ADMIN, ECHO = 443, 80, 3000, 9090, 8080

# mitmproxy is a second's work for an idle processor.
START_DEADLINE = 90.0
STOP_DEADLINE = 10.0
# From the end of a client to the gateway's counters and its log.
SETTLE_DEADLINE = 30.0
LOOK = 0.02

CLONE_NEWNET = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)

ROUTE = """
apiVersion: tidegate.io/v1alpha1
kind: WebSocketRoute
metadata: {name: lab, namespace: lab}
spec:
  hostnames: [gateway.lab.test, front.lab.test]
  tls: {secretName: lab-tls}
  plaintext: Allow
  rules:
  - matches: [{path: {value: /ws}}]
    KEEPALIVE
    backendRefs: [{name: echo, port: 80}]
  - matches: [{path: {value: /dead}}]
    backendRefs: [{name: dead, port: 80}]
"""

BACKEND = """
---
apiVersion: v1
kind: Service
metadata: {name: NAME, namespace: lab}
spec: {ports: [{name: ws, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: NAME-1, namespace: lab, labels: {kubernetes.io/service-name: NAME}}
addressType: IPv4
ports: [{name: ws, port: PORT}]
endpoints: [{addresses: [127.0.0.1]}]
"""


OPEN, GRANTED = "tidegate_connections_open", "tidegate_connections_total"
CLOSED, REFUSED = "tidegate_connections_closed_total", "tidegate_upgrade_failures_total"


class Failure(Exception):
    """Ends the run of a box; the message says what was seen."""


def check(holds, what):
    if not holds:
        raise Failure(what)


def poll(what, condition, deadline):
    """Asks until the answer is true, and gives that."""
    end = time.monotonic() + deadline
    while True:
        answer = condition()
        if answer:
            return answer
        check(time.monotonic() < end, f"{what}: not within {deadline:.0f} s")
        time.sleep(LOOK)


def command(*words):
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    check(done.returncode == 0, f"{' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class Namespace:
    """A network namespace with a name."""

    def __init__(self, name):
        self.name = name
        self.path = f"/run/netns/{name}"
        command("ip", "netns", "add", name)
        command("ip", "-n", name, "link", "set", "lo", "up")

    def ip(self, *words):
        command("ip", "-n", self.name, *words)

    def run(self, *words):
        return command("nsenter", f"--net={self.path}", *words)

    def call(self, function, *arguments):
        """Calls a function in a thread of this namespace: sockets that it makes are of here."""
        results = []

        def enter():
            try:
                with open(self.path, "rb") as file:
                    if libc.setns(file.fileno(), CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), "setns")
                results.append((function(*arguments), None))
            except BaseException as error:  # raised again by who called
                results.append((None, error))

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        value, error = results[0]
        if error is not None:
            raise error
        return value

    def filter(self, rules):
        """Loads nftables' rules, the body of a table `lab`."""
        ruleset = "table ip lab {\n" + rules + "\n}\n"
        done = subprocess.run(
            ["nsenter", f"--net={self.path}", "nft", "-f", "-"],
            input=ruleset, capture_output=True, text=True, check=False,
        )
        check(done.returncode == 0, f"nft: {done.stderr}")

    def packets(self, counter):
        """What a named counter of the filter has counted."""
        answer = json.loads(self.run("nft", "--json", "list", "counter", "ip", "lab", counter))
        return next(item["counter"]["packets"] for item in answer["nftables"] if "counter" in item)

    def listens(self, port):
        return bool(self.run("ss", "-Hltn", f"sport = :{port}").strip())


class Process:
    """A program in a namespace, ended with the laboratory; its output is in a file."""

    def __init__(self, name, namespace, words, log, env=None):
        self.name, self.log = name, log
        with open(log, "wb") as output:
            self.child = subprocess.Popen(
                ["nsenter", f"--net={namespace.path}", *map(str, words)],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=log.parent,
                env=os.environ | (env or {}),
            )

    def text(self):
        return self.log.read_text(encoding="utf-8", errors="replace")

    def alive(self):
        check(self.child.poll() is None, f"{self.name} ended with {self.child.returncode}: {self.text()[-2000:]}")
        return True

    def wait_until(self, what, condition):
        poll(f"{self.name}: {what}", lambda: self.alive() and condition(), START_DEADLINE)

    def end(self):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(STOP_DEADLINE)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()


class Counters:
    """One scrape of the gateway's metrics."""

    def __init__(self, text):
        self.series = {}
        for line in text.splitlines():
            if line.startswith("tidegate_"):
                name, value = line.rsplit(" ", 1)
                self.series[name] = float(value)

    def by(self, metric, label):
        """The sums of a metric's series, by one label's value; zeros left out."""
        sums = {}
        for name, value in self.series.items():
            if name.startswith(f"{metric}{{") and value:
                key = name.split(f'{label}="', 1)[1].split('"', 1)[0]
                sums[key] = sums.get(key, 0) + int(value)
        return sums

    def sum(self, metric):
        return int(sum(value for name, value in self.series.items() if name.split("{", 1)[0] == metric))


class Seen:
    """What the gateway saw between two scrapes: refusals by reason, ends by cause, upgrades granted, and its log's lines."""

    def __init__(self, before, after, lines):
        def more(metric, label):
            then = before.by(metric, label)
            now = after.by(metric, label)
            return {key: count - then.get(key, 0) for key, count in now.items() if count > then.get(key, 0)}

        self.refused = more(REFUSED, "reason")
        self.closed = more(CLOSED, "cause")
        self.granted = after.sum(GRANTED) - before.sum(GRANTED)
        self.lines = lines

    def logged(self, event, word):
        """The reasons or causes that the log names."""
        return {line[word] for line in self.lines if line.get("event") == event}


class Lab:
    """Client, box and server, connected and routed, with a gateway and its backend at the server."""

    def __init__(self, name, settings, box):
        self.name, self.settings = name, settings
        self.folder = settings.state / name
        self.folder.mkdir()
        self.folder.chmod(0o755)
        self.processes, self.left_open = [], 0
        self.client = Namespace(f"{name}-client")
        self.box = Namespace(f"{name}-box")
        self.server = Namespace(f"{name}-server")
        self.link(self.client, CLIENT, BOX)
        self.link(self.server, SERVER, FAR_SIDE)
        self.box.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        self.serve(box.keepalive)

    def link(self, end, address, via):
        near, far = f"{end.name[-6:]}0", f"to-{end.name[-6:]}"
        command("ip", "link", "add", near, "netns", end.name, "type", "veth", "peer", "name", far, "netns", self.box.name)
        end.ip("address", "add", f"{address}/24", "dev", near)
        self.box.ip("address", "add", f"{via}/24", "dev", far)
        end.ip("link", "set", near, "up")
        self.box.ip("link", "set", far, "up")
        end.ip("route", "add", "default", "via", via)

    def start(self, name, namespace, *words, env=None):
        process = Process(name, namespace, words, self.folder / f"{name}.log", env)
        self.processes.append(process)
        return process

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def serve(self, keepalive):
        """Starts the gateway, and the backend behind it."""
        tidegate = self.settings.tidegate
        echo = self.start("echo", self.server, tidegate, "echo-backend", "--listen", f"127.0.0.1:{ECHO}")
        source = self.folder / "routes"
        source.mkdir()
        route = ROUTE.replace("KEEPALIVE", f"keepalive: {keepalive}" if keepalive else "")
        text = route + self.settings.secret
        for backend, port in [("echo", ECHO), ("dead", 9)]:
            text += BACKEND.replace("NAME", backend).replace("PORT", str(port))
        (source / "routes.yaml").write_text(text, encoding="utf-8")
        self.gateway = self.start(
            "tidegate", self.server, tidegate, "serve", "--source", source, "--log-format", "json", "--workers", "1",
            "--https-listen", f"0.0.0.0:{HTTPS},0.0.0.0:{DEVELOPMENT}", "--http-listen", f"0.0.0.0:{HTTP}",
            "--admin-listen", f"127.0.0.1:{ADMIN}", "--drain-delay", "0s", "--drain-spread", "0s",
            "--drain-timeout", "1s",
        )
        echo.wait_until("listens", lambda: self.server.listens(ECHO))
        self.gateway.wait_until("is ready", lambda: "\nready\n" in self.gateway.text())

    def scrape(self):
        def fetch():
            with urllib.request.urlopen(f"http://127.0.0.1:{ADMIN}/metrics", timeout=5) as answer:
                return answer.read().decode()

        return Counters(self.server.call(fetch))

    def log_lines(self):
        whole = self.gateway.text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]

    def settled(self):
        """The counters and the log's lines, once no connection is open but those whose end no packet tells, and both agree."""

        def look():
            counters, lines = self.scrape(), self.log_lines()
            # The log is written a moment after the counters are.
            agree = all(
                counters.sum(metric) == sum(line.get("event") == event for line in lines)
                for metric, event in [(CLOSED, "close"), (REFUSED, "refused")]
            )
            return (counters, lines) if agree and counters.sum(OPEN) == self.left_open else None

        return poll(f"{self.name}: the gateway's connections end, and the log tells it", look, SETTLE_DEADLINE)

    @contextlib.contextmanager
    def watch(self, left_open=0):
        """Gives a list, which holds what the gateway has Seen in the block once that is over and its connections are; but
        `left_open` of them, whose end no packet tells."""
        (before, earlier), result = self.settled(), []
        yield result
        self.left_open += left_open
        after, lines = self.settled()
        result.append(Seen(before, after, lines[len(earlier):]))

    def end(self):
        for process in reversed(self.processes):
            process.end()


class Settings:
    """What all boxes of a run share: the program, certificates, a folder."""

    def __init__(self, tidegate, mitmdump, state):
        self.tidegate, self.mitmdump, self.state = tidegate, mitmdump, pathlib.Path(state)
        # The public authority of this small world, and one that a company has made for its inspection.
        self.authority = self.make_authority("authority", "Lab Trust Services Root")
        self.corporate = self.make_authority("corporate", "Example Corp Network Inspection Root")
        self.certificate = self.issue()
        self.secret = self.make_secret()

    def make_authority(self, name, subject):
        key, certificate = self.state / f"{name}.key", self.state / f"{name}.pem"
        command(
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-sha256",
            "-keyout", str(key), "-out", str(certificate), "-subj", f"/O={subject.rsplit(' ', 1)[0]}/CN={subject}",
            "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        )
        return certificate

    def issue(self):
        """The gateway's certificate; its key beside it."""
        request, certificate = self.state / "server.csr", self.state / "server.pem"
        command(
            "openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-sha256",
            "-keyout", str(certificate.with_suffix(".key")), "-out", str(request), "-subj", f"/CN={GATEWAY}",
        )
        extensions = self.state / "server.ext"
        extensions.write_text(
            f"subjectAltName=DNS:{GATEWAY},DNS:{FRONT}\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n",
            encoding="utf-8",
        )
        command(
            "openssl", "x509", "-req", "-in", str(request), "-CA", str(self.authority), "-sha256", "-days", "30",
            "-CAkey", str(self.authority.with_suffix(".key")), "-CAcreateserial",
            "-out", str(certificate), "-extfile", str(extensions),
        )
        return certificate

    def make_secret(self):
        from base64 import b64encode

        data = {
            "tls.crt": b64encode(self.certificate.read_bytes()).decode(),
            "tls.key": b64encode(self.certificate.with_suffix(".key").read_bytes()).decode(),
        }
        secret = {
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "lab-tls", "namespace": "lab"},
            "type": "kubernetes.io/tls", "data": data,
        }
        return f"---\n{json.dumps(secret)}\n"
