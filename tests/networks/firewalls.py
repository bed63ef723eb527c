"""Boxes that look at packets."""

from box import IDLE, LATE_PINGS, PINGS, Box
from lab import DEVELOPMENT, HTTP, HTTPS, SERVER, check
from probes import reaches


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
