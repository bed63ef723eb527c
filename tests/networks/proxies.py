"""Boxes of the network that the client is in: transparent proxies, TLS inspection, and proxies that are asked for."""

from box import BENT, PROXY, Box, bend, start_haproxy, start_squid
from lab import BOX, DEVELOPMENT, GATEWAY, HTTP, HTTPS, SERVER, Failure, check, command
from probes import issuer, reaches, tunnel, upgrade


class Squid(Box):
    """A transparent cache on port 80. It is no tunnel for upgrades unless told to be: it takes them off and leaves a Via."""

    def start(self, lab):
        lab.box.filter(bend(HTTP))
        start_squid(lab, f"http_port {BENT} intercept\nhttp_port {PROXY}\nhttp_access allow all\n", BENT)

    def probe(self, lab):
        answer = self.refused_by_gateway(lab, False)
        check("squid" in answer.headers.get("via", ""), f"no Via: {answer.headers}")
        self.works(lab, True).stream.close()


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
