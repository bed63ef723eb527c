"""The boxes on the way: how each is set up, and a plain probe that shows that it does what it is there for.

A box is a real program with the configuration that people run. What the doctor has to say of it is in expected.py.
"""

from lab import BOX, CLIENT, DEVELOPMENT, FRONT, GATEWAY, HTTP, HTTPS, SERVER, Failure, check, command
from probes import issuer, reaches, tunnel, upgrade

# Where the proxies listen that connections are bent to, and the one that clients are told of.
BENT, PROXY = 3128, 3129
# Seconds after which the boxes that cut quiet connections do so, and by when a probe has to have seen it.
IDLE, SEEN_BY = 5, 9
NO_PINGS, PINGS, LATE_PINGS = "{clientPing: 0s}", "{clientPing: 1s}", "{clientPing: 7s, pongTimeout: 2s}"


class Box:
    """A row of namespaces whose box only routes."""

    keepalive = NO_PINGS

    def start(self, lab):
        pass

    def probe(self, lab):
        raise NotImplementedError

    # ---- what probes are made of

    def asks(self, lab, secure, name=GATEWAY, port=None, path="/ws", subprotocol=None):
        """The answer to an upgrade, by the client."""
        address = FRONT_ADDRESS[name]
        port = port or (HTTPS if secure else HTTP)
        authority = self.trusts(lab) if secure else None
        return lab.client.call(upgrade, address, port, name, authority, path, subprotocol)

    def trusts(self, lab):
        """The authority of the certificates that the client is shown."""
        return lab.settings.authority

    def works(self, lab, secure, **how):
        answer = self.asks(lab, secure, **how)
        check(answer.granted(), f"no sound 101: {answer.status} {answer.headers}")
        echoed = lab.client.call(answer.echo, "hello")
        check(echoed == (0x81, "hello"), f"not echoed: {echoed}")
        return answer

    def refused_by_gateway(self, lab, secure, **how):
        """An upgrade comes to the gateway, but not whole."""
        with lab.watch() as seen:
            answer = self.asks(lab, secure, **how)
        check(answer.status != 101, "the upgrade came through")
        check(sum(seen[0].refused.values()) == 1, f"the gateway saw {seen[0].refused}")
        check("tidegate-reason" in answer.headers, f"not the gateway's answer: {answer.headers}")
        return answer

    def answered_by_box(self, lab, secure, status, **how):
        """The gateway sees nothing of an upgrade."""
        with lab.watch() as seen:
            answer = self.asks(lab, secure, **how)
        check(answer.status == status, f"{answer.status} {answer.headers}")
        check("tidegate-reason" not in answer.headers, f"the gateway answered: {answer.headers}")
        check(not seen[0].refused and not seen[0].granted, f"the gateway saw {seen[0].refused}")

    def cut(self, lab, cause, **how):
        """A quiet connection is cut, and the gateway counts how."""
        with lab.watch() as seen:
            answer = self.works(lab, **how)
            seconds = lab.client.call(answer.cut_after, SEEN_BY)
            answer.stream.close()
        check(seconds is not None, f"not cut within {SEEN_BY} s")
        check(IDLE - 1 < seconds < SEEN_BY, f"cut after {seconds:.1f} s")
        check(seen[0].closed == {cause: 1}, f"the gateway saw {seen[0].closed}")

    def lasts(self, lab, **how):
        """A quiet connection is not cut in twice the time."""
        answer = self.works(lab, **how)
        seconds = lab.client.call(answer.cut_after, 2 * IDLE)
        check(seconds is None, f"cut after {seconds} s")
        check(lab.client.call(answer.echo, "still there")[1] == "still there", "does not echo any more")
        answer.stream.close()


FRONT_ADDRESS = {GATEWAY: SERVER, FRONT: BOX}


def bend(*ports):
    """Rules that bend connections to ports of the far side to a proxy in the box."""
    rules = ", ".join(map(str, ports))
    return f"""
    chain bent {{
        type nat hook prerouting priority dstnat
        ip saddr {CLIENT} ip daddr {SERVER} tcp dport {{ {rules} }} redirect to :{BENT}
    }}
    """


class Plain(Box):
    """Nothing but a router."""

    def probe(self, lab):
        for port in [HTTPS, DEVELOPMENT]:
            self.works(lab, True, port=port).stream.close()
        self.works(lab, False).stream.close()
        check(lab.client.call(reaches, SERVER, 3001) == "refused", "a port where nothing listens is not refused")
        answer = self.asks(lab, True, path="/nowhere")
        check(answer.headers.get("tidegate-reason") == "no_route", f"{answer.status} {answer.headers}")


class Firewall(Box):
    """Drops what begins a connection, unless it is to a web server."""

    ports = f"{HTTP}, {HTTPS}"
    verdict = "drop"

    def start(self, lab):
        lab.box.filter(f"""
        counter dropped {{ }}
        chain forwarded {{
            type filter hook forward priority filter; policy drop
            ct state established,related accept
            tcp dport {{ {self.ports} }} accept
            counter name dropped {self.verdict}
        }}
        """)

    def probe(self, lab):
        for port in [HTTP, HTTPS]:
            check(lab.client.call(reaches, SERVER, port) == "connected", f"{port} does not pass")
        check(lab.client.call(reaches, SERVER, DEVELOPMENT) == "silent", "3000 is not silent")
        check(lab.box.packets("dropped") >= 2, "it dropped no SYN, or none was sent again")


class Wall(Firewall):
    """Drops everything but what goes to port 7: nothing is there."""

    ports = "7"

    def probe(self, lab):
        for port in [HTTP, HTTPS, DEVELOPMENT]:
            check(lab.client.call(reaches, SERVER, port) == "silent", f"{port} is not silent")


class Rejecting(Firewall):
    """The same, but says no."""

    verdict = "reject with icmp type admin-prohibited"

    def probe(self, lab):
        for port in [HTTP, HTTPS]:
            check(lab.client.call(reaches, SERVER, port) == "connected", f"{port} does not pass")
        found = lab.client.call(reaches, SERVER, DEVELOPMENT)
        check(found == "unreachable", f"3000 is {found}")


class Resetting(Box):
    """A firewall that reads the name in the ClientHello, and resets the connection: here, whatever is said first on 443."""

    def start(self, lab):
        lab.box.filter(f"""
        counter resets {{ }}
        chain forwarded {{
            type filter hook forward priority filter
            ip daddr {SERVER} tcp dport {HTTPS} tcp flags & (psh | ack) == psh | ack counter name resets reject with tcp reset
        }}
        """)

    def probe(self, lab):
        check(lab.client.call(reaches, SERVER, HTTPS) == "connected", "443 does not pass")
        try:
            self.asks(lab, True)
            check(False, "TLS passes")
        except ConnectionResetError:
            pass
        check(lab.box.packets("resets") == 1, "it was not the firewall that reset it")
        self.works(lab, True, port=DEVELOPMENT).stream.close()


class Forgetful(Box):
    """A firewall that forgets quiet connections after 5 seconds and drops what it does not know, without a word to either side."""

    def start(self, lab):
        for setting in [f"nf_conntrack_tcp_timeout_established={IDLE}", "nf_conntrack_tcp_loose=0"]:
            lab.box.run("sysctl", "-qw", f"net.netfilter.{setting}")
        lab.box.filter("""
        counter forgotten { }
        chain forwarded {
            type filter hook forward priority filter
            ct state invalid counter name forgotten drop
        }
        """)

    def probe(self, lab):
        answer = self.works(lab, True)
        seconds = lab.client.call(answer.cut_after, 2 * IDLE)
        check(seconds is None, f"somebody was told after {seconds} s")
        try:
            answer.stream.settimeout(2)
            echoed = lab.client.call(answer.echo, "hello")
            check(False, f"it came through: {echoed}")
        except TimeoutError:
            pass
        check(lab.box.packets("forgotten") > 0, "nothing was dropped")
        lab.left_open = 1


class ForgetfulWithPings(Forgetful):
    keepalive = PINGS

    def probe(self, lab):
        self.lasts(lab, secure=True)
        check(lab.box.packets("forgotten") == 0, "something was dropped")


class ForgetfulWithLatePings(Forgetful):
    """The same, and the route pings clients too late: the gateway finds out, by a ping that is not answered."""

    keepalive = LATE_PINGS

    def probe(self, lab):
        with lab.watch() as seen:
            answer = self.works(lab, True)
            check(lab.client.call(answer.cut_after, 3 * IDLE) is None, "the client was told")
        check(seen[0].closed == {"pong_timeout": 1}, f"the gateway saw {seen[0].closed}")
        answer.stream.close()


SQUID = """
pid_filename none
cache deny all
cache_log CACHE_LOG
logfile_rotate 0
netdb_filename none
shutdown_lifetime 0 seconds
visible_hostname proxy.example
"""


def start_squid(lab, text, *ports):
    # It gives up root, and then writes its logs.
    logs = lab.folder / "squid"
    logs.mkdir()
    logs.chmod(0o777)
    common = SQUID.replace("CACHE_LOG", str(logs / "cache.log"))
    config = lab.write("squid.conf", f"{common}\naccess_log stdio:{logs}/access.log\n{text}")
    squid = lab.start("squid", lab.box, "squid", "-N", "-n", lab.name.replace("-", ""), "-f", config)
    for port in ports:
        squid.wait_until("listens", lambda port=port: lab.box.listens(port))


class Squid(Box):
    """A transparent cache on port 80. It is no tunnel for upgrades unless told to be: it takes them off and leaves a Via."""

    def start(self, lab):
        lab.box.filter(bend(HTTP))
        start_squid(lab, f"http_port {BENT} intercept\nhttp_port {PROXY}\nhttp_access allow all\n", BENT)

    def probe(self, lab):
        answer = self.refused_by_gateway(lab, False)
        check("squid" in answer.headers.get("via", ""), f"no Via: {answer.headers}")
        self.works(lab, True).stream.close()


HAPROXY = """
global
    maxconn 100
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
"""


def start_haproxy(lab, text, port):
    config = lab.write("haproxy.cfg", HAPROXY + text)
    haproxy = lab.start("haproxy", lab.box, "haproxy", "-db", "-f", config)
    haproxy.wait_until("listens", lambda: lab.box.listens(port))


class Stripping(Box):
    """A transparent proxy on port 80 that takes Upgrade off and leaves no trace."""

    rules = """
    http-request del-header upgrade
    http-request del-header connection
    """

    def start(self, lab):
        lab.box.filter(bend(HTTP))
        start_haproxy(lab, f"""
frontend bent
    bind :{BENT}
{self.rules}
    default_backend origin
backend origin
    server origin {SERVER}:{HTTP}
""", BENT)

    def probe(self, lab):
        answer = self.refused_by_gateway(lab, False)
        check("via" not in answer.headers, f"a trace: {answer.headers}")
        self.works(lab, True).stream.close()


class Answering(Stripping):
    """A transparent proxy on port 80 that answers upgrades in the server's place."""

    rules = """
    http-request return status 403 content-type text/html string "<h1>Blocked by policy</h1>" if { hdr(upgrade) -m found }
    """

    def probe(self, lab):
        self.answered_by_box(lab, False, 403)
        self.works(lab, True).stream.close()


class Portal(Answering):
    """The login page of a hotel: whatever is asked in clear text leads to it, and nothing else passes."""

    rules = """
    http-request redirect location http://login.hotel.example/ code 302
    """

    def start(self, lab):
        super().start(lab)
        command("nsenter", f"--net={lab.box.path}", "nft",
                "add chain ip lab forwarded { type filter hook forward priority filter; policy drop; }")

    def probe(self, lab):
        self.answered_by_box(lab, False, 302)
        check(lab.client.call(reaches, SERVER, HTTPS) == "silent", "443 passes")


class LosingSubprotocol(Stripping):
    """A transparent proxy on port 80 that passes upgrades, but no header that it does not know."""

    rules = """
    http-response del-header sec-websocket-protocol
    """

    def probe(self, lab):
        for secure, wanted in [(False, None), (True, "mqtt")]:
            answer = self.works(lab, secure, subprotocol="mqtt")
            check(answer.headers.get("sec-websocket-protocol") == wanted, f"{answer.headers}")
            answer.stream.close()


class Inspection(Box):
    """Opens TLS with certificates of its own authority; otherwise passes all on."""

    addon = None

    def start(self, lab):
        lab.box.filter(bend(HTTPS))
        authority = lab.settings.corporate
        folder = lab.folder / "mitmproxy"
        folder.mkdir()
        pem = authority.with_suffix(".key").read_bytes() + authority.read_bytes()
        (folder / "mitmproxy-ca.pem").write_bytes(pem)
        arguments = ["--mode", "transparent", "--listen-port", BENT, "--set", f"confdir={folder}"]
        arguments += ["--set", f"ssl_verify_upstream_trusted_ca={lab.settings.authority}"]
        if self.addon:
            arguments += ["--scripts", lab.write("addon.py", self.addon)]
        mitmproxy = lab.start("mitmproxy", lab.box, lab.settings.mitmdump, *arguments)
        mitmproxy.wait_until("listens", lambda: lab.box.listens(BENT))

    def trusts(self, lab):
        return lab.settings.corporate

    def probe(self, lab):
        shown = lab.client.call(issuer, SERVER, HTTPS, GATEWAY, lab.settings.corporate)
        check(shown == "Example Corp Network Inspection Root", f"the certificate is of {shown}")
        self.probe_upgrade(lab)

    def probe_upgrade(self, lab):
        self.works(lab, True).stream.close()


class InspectionThatStrips(Inspection):
    """The same, and takes upgrades for plain requests."""

    addon = """
def requestheaders(flow):
    for name in ("upgrade", "connection"):
        flow.request.headers.pop(name, None)
"""

    def probe_upgrade(self, lab):
        self.refused_by_gateway(lab, True)


class InspectionThatBlocks(Inspection):
    """The same, and answers upgrades itself."""

    addon = """
from mitmproxy import http

def request(flow):
    if "upgrade" in flow.request.headers:
        flow.response = http.Response.make(403, b"Not allowed here.", {"content-type": "text/plain"})
"""

    def probe_upgrade(self, lab):
        self.answered_by_box(lab, True, 403)


class InspectionThatCuts(Inspection):
    """The same, and ends connections that ask for an upgrade."""

    addon = """
def request(flow):
    if "upgrade" in flow.request.headers:
        flow.kill()
"""

    def probe_upgrade(self, lab):
        with lab.watch() as seen:
            try:
                answer = self.asks(lab, True)
            except (Failure, ConnectionError):
                answer = None
        check(answer is None, "it was answered")
        check(not seen[0].refused and not seen[0].granted, f"the gateway saw {seen[0].refused}")


class Nginx(Box):
    """In front of the gateway with the classic block, which is right, and a read timeout of 5 seconds."""

    lines = """
        proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection "Upgrade";
        proxy_read_timeout 5s;
    """

    def start(self, lab):
        certificate = lab.settings.certificate
        config = lab.write("nginx.conf", f"""
user root;
worker_processes 1;
daemon off;
pid {lab.folder}/nginx.pid;
error_log {lab.folder}/nginx-error.log;
events {{ worker_connections 100; }}
http {{
    access_log {lab.folder}/nginx-access.log;
    server {{
        listen {HTTPS} ssl;
        ssl_certificate {certificate};
        ssl_certificate_key {certificate.with_suffix(".key")};
        location / {{
            proxy_pass http://{SERVER}:{HTTP};
            proxy_set_header Host $host;
            {self.lines}
        }}
    }}
}}
""")
        nginx = lab.start("nginx", lab.box, "nginx", "-c", config, "-e", lab.folder / "nginx-error.log")
        nginx.wait_until("listens", lambda: lab.box.listens(HTTPS))

    def probe(self, lab):
        self.cut(lab, "client_closed", secure=True, name=FRONT)


class NginxWithPings(Nginx):
    """The same, and the route pings clients every second."""

    keepalive = PINGS

    def probe(self, lab):
        self.lasts(lab, secure=True, name=FRONT)


class NginxDefault(Nginx):
    """The classic block without `proxy_read_timeout`: 60 seconds."""

    lines = Nginx.lines.replace("proxy_read_timeout 5s;", "")

    def probe(self, lab):
        answer = self.works(lab, True, name=FRONT)
        seconds = lab.client.call(answer.cut_after, 64)
        check(seconds and 58 < seconds < 63, f"cut after {seconds} s")


class NginxDefaultWithPings(NginxDefault):
    """The same, and the gateway with its own default: a ping every 30 seconds."""

    keepalive = None

    def probe(self, lab):
        # The doctor is asked for how long it lasts.
        self.works(lab, True, name=FRONT).stream.close()


class NginxHttp10(Nginx):
    """Without `proxy_http_version`: nginx asks by HTTP/1.0."""

    lines = """
        proxy_http_version 1.0; # what it does without this line up to version 1.29.6
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection "Upgrade";
    """

    def probe(self, lab):
        self.refused_by_gateway(lab, True, name=FRONT)


class NginxWithoutHeaders(Nginx):
    """Without the lines for Upgrade and Connection: nginx takes both off."""

    lines = "proxy_http_version 1.1;"

    def probe(self, lab):
        self.refused_by_gateway(lab, True, name=FRONT)


class NginxUntouched(Nginx):
    """`proxy_pass` alone: both mistakes."""

    lines = ""

    def probe(self, lab):
        self.refused_by_gateway(lab, True, name=FRONT)


class Balancer(Box):
    """A load balancer that ends TLS and cuts quiet WebSockets after 5 seconds."""

    cause = "reset"

    def start(self, lab):
        pem = lab.folder / "front.pem"
        certificate = lab.settings.certificate
        pem.write_bytes(certificate.read_bytes() + certificate.with_suffix(".key").read_bytes())
        start_haproxy(lab, f"""
    timeout tunnel {IDLE}s
frontend front
    bind :{HTTPS} ssl crt {pem}
    default_backend gateway
backend gateway
    server gateway {SERVER}:{HTTP}
""", HTTPS)

    def probe(self, lab):
        self.cut(lab, self.cause, secure=True, name=FRONT)


class BalancerWithPings(Balancer):
    """The same, and the route pings clients every second."""

    keepalive = PINGS

    def probe(self, lab):
        self.lasts(lab, secure=True, name=FRONT)


class Layer4(Balancer):
    """A load balancer that passes TLS on and cuts quiet connections after 5 seconds."""

    cause = "client_closed"

    def start(self, lab):
        start_haproxy(lab, f"""
    mode tcp
    timeout client {IDLE}s
    timeout server {IDLE}s
frontend front
    bind :{HTTPS}
    default_backend gateway
backend gateway
    server gateway {SERVER}:{HTTPS}
""", HTTPS)


class Layer4WithPings(Layer4):
    keepalive = PINGS

    def probe(self, lab):
        self.lasts(lab, secure=True, name=FRONT)


class ConnectProxy(Box):
    """The only way out, to port 443 alone."""

    access = "http_access allow CONNECT web"

    def start(self, lab):
        lab.box.filter("chain forwarded { type filter hook forward priority filter; policy drop; }")
        hosts = lab.write("hosts", f"{SERVER} {GATEWAY}\n")
        start_squid(lab, f"""
http_port {PROXY}
hosts_file {hosts}
acl CONNECT method CONNECT
acl web port {HTTPS}
{self.access}
http_access deny all
""", PROXY)

    def probe(self, lab):
        check(lab.client.call(reaches, SERVER, HTTPS) == "silent", "there is another way out")
        self.probe_tunnel(lab)

    def probe_tunnel(self, lab):
        for port, wanted in [(HTTPS, 200), (DEVELOPMENT, 403), (HTTP, 403)]:
            status, stream = lab.client.call(tunnel, BOX, PROXY, f"{GATEWAY}:{port}")
            check(status == wanted, f"CONNECT to {port}: {status}")
            if stream:
                self.goes_through(lab, stream)

    def goes_through(self, lab, stream):
        answer = lab.client.call(upgrade, BOX, PROXY, GATEWAY, lab.settings.authority, "/ws", None, stream)
        check(answer.granted(), f"no 101: {answer.status}")
        answer.stream.close()


class ConnectProxyWithLogin(ConnectProxy):
    """The same for those who say who they are."""

    access = """
auth_param basic program HELPER
auth_param basic realm the lab
acl known proxy_auth REQUIRED
http_access deny !known
http_access allow CONNECT web
"""

    def start(self, lab):
        # Squid asks it a line at a time, "USER PASSWORD".
        helper = lab.write(
            "helper", '#!/bin/sh\nwhile read -r line; do [ "$line" = "ada secret" ] && echo OK || echo ERR; done\n'
        )
        helper.chmod(0o755)
        self.access = type(self).access.replace("HELPER", str(helper))
        super().start(lab)

    def probe_tunnel(self, lab):
        for credentials, wanted in [(None, 407), ("ada:wrong", 407), ("ada:secret", 200)]:
            status, stream = lab.client.call(tunnel, BOX, PROXY, f"{GATEWAY}:{HTTPS}", credentials)
            check(status == wanted, f"CONNECT as {credentials}: {status}")
            if stream:
                self.goes_through(lab, stream)


# Those that take longest first, and what takes work between what waits.
BOXES = {
    "nginx-default": NginxDefault,
    "nginx-default-pings": NginxDefaultWithPings,
    "lb-forgets-late-pings": ForgetfulWithLatePings,
    "inspection": Inspection,
    "lb-forgets": Forgetful,
    "lb-forgets-pings": ForgetfulWithPings,
    "inspection-strips": InspectionThatStrips,
    "nginx": Nginx,
    "nginx-pings": NginxWithPings,
    "proxy": ConnectProxy,
    "inspection-blocks": InspectionThatBlocks,
    "proxy-login": ConnectProxyWithLogin,
    "lb": Balancer,
    "lb-pings": BalancerWithPings,
    "inspection-cuts": InspectionThatCuts,
    "lb-tcp": Layer4,
    "lb-tcp-pings": Layer4WithPings,
    "wall": Wall,
    "firewall": Firewall,
    "none": Plain,
    "firewall-rejects": Rejecting,
    "firewall-resets": Resetting,
    "squid": Squid,
    "strips": Stripping,
    "answers": Answering,
    "portal": Portal,
    "loses-subprotocol": LosingSubprotocol,
    "nginx-http10": NginxHttp10,
    "nginx-no-headers": NginxWithoutHeaders,
    "nginx-untouched": NginxUntouched,
}
