"""What the doctor has to say of each box, and what the gateway has to have seen meanwhile.

All of it is exact, which is how blame of the wrong box is found: a diagnosis, a refusal or a cause too many fails as one too
few does.
"""

import dataclasses

GATEWAY, FRONT = "wss://gateway.lab.test/ws", "wss://front.lab.test/ws"
CLEAR, DEVELOPMENT = "ws://gateway.lab.test/ws", "wss://gateway.lab.test:3000/ws"

# What stands in arguments for a file or an address of the run.
PROXY, LOGIN, WRONG_LOGIN, NO_PROXY = "PROXY", "LOGIN", "WRONG_LOGIN", "NO_PROXY"


@dataclasses.dataclass(frozen=True)
class Case:
    """One run of `tidegate doctor URL --json ARGUMENTS` from the client's network."""

    url: str
    # The diagnoses: code and box.
    says: tuple = ()
    exit: int = 0
    arguments: tuple = ()
    # Variables of the environment.
    environment: tuple = ()
    # Whether the client's system trusts the company's authority.
    corporate: bool = False
    # The gateway's side: reasons of refusals and causes of ends, no more and no fewer.
    refused: frozenset = frozenset()
    closed: frozenset = frozenset({"client_closed"})
    # What the gateway's log has of the way of a refused upgrade, field by field; `None`: the field is not there.
    way: tuple = ()
    # The seconds, from and to, after which the doctor has to have seen a quiet connection cut.
    cut: tuple = ()
    # Connections that the gateway takes for open afterwards: no packet tells it of their end.
    left_open: int = 0

    def __str__(self):
        variables = [f"{name}={value}" for name, value in self.environment]
        words = " ".join((*variables, "doctor", self.url, *self.arguments))
        return words + (" (company's authority trusted)" if self.corporate else "")


def fine(url, *arguments, **more):
    return Case(url, arguments=arguments, **more)


def nothing_arrives(url, says, exit, **more):
    return Case(url, says, exit, closed=frozenset(), **more)


def works_elsewhere(url, says, exit, **more):
    """Nothing arrives by this URL, but wss:// on port 443 works, and the doctor says so."""
    return Case(url, says, exit, **more)


def stripped(url, box, **way):
    """The upgrade comes to the gateway without its marks: 15. The log names what is missing. From ws:// the doctor goes on to
    wss://, which works."""
    fields = {"http": "1.1", "via": None, **way}
    return Case(
        url, (("upgrade_http10" if fields["http"] == "1.0" else "upgrade_stripped", box),), 15,
        refused=frozenset({"upgrade_stripped"}), way=tuple(fields.items()),
        closed=frozenset({"client_closed"} if url == CLEAR else ()),
    )


INTERCEPTED = (("tls_intercepted", "tls_inspection"),)
BOTH = "upgrade,connection"
HELD = ("--idle", "8s")
IDLE_CUT = (4, 8)
# Nobody says a word: the doctor asks at the end.
FORGOTTEN = (8, 11)


def cut(url, box, **more):
    """A quiet socket is cut after five seconds, one with pings is not: 18."""
    return Case(url, (("idle_cut", box),), 18, HELD, **{"cut": IDLE_CUT, **more})


EXPECTED = {
    # ---- nothing on the way
    "none": [
        fine(GATEWAY, *HELD),
        fine(CLEAR),
        fine(DEVELOPMENT),
        works_elsewhere("wss://gateway.lab.test:3001/ws", (("port_refused", "server"),), 11),
        nothing_arrives("wss://nowhere.lab.test/ws", (("resolution_failed", "resolver"),), 10),
        Case("wss://gateway.lab.test/nowhere", (("upgrade_refused", "gateway"),), 14,
             refused=frozenset({"no_route"}), closed=frozenset()),
        Case("wss://gateway.lab.test/dead", (("upgrade_refused", "backend"),), 14,
             refused=frozenset({"backend_connect"}), closed=frozenset()),
    ],
    # ---- firewalls
    "firewall": [
        works_elsewhere(DEVELOPMENT, (("port_silent", "firewall"),), 11),
        fine(GATEWAY),
    ],
    # Nothing at all answers: it may be a firewall, or a machine that is off.
    "wall": [nothing_arrives(GATEWAY, (("port_silent", "unknown"),), 11)],
    "firewall-rejects": [
        works_elsewhere(DEVELOPMENT, (("port_refused", "firewall"),), 11),
        fine(GATEWAY),
    ],
    # By its looks it may as well be what listens on 443.
    "firewall-resets": [
        nothing_arrives(GATEWAY, (("port_reset", "unknown"),), 11),
        fine(CLEAR),
        fine(DEVELOPMENT),
    ],
    # ---- transparent proxies on port 80
    "squid": [
        stripped(CLEAR, "transparent_proxy", missing=BOTH, via="1.1 proxy.example (squid/5.7)"),
        fine(GATEWAY),
    ],
    "strips": [stripped(CLEAR, "transparent_proxy", missing=BOTH), fine(GATEWAY)],
    "answers": [
        works_elsewhere(CLEAR, (("upgrade_blocked", "transparent_proxy"),), 15),
        fine(GATEWAY),
    ],
    "portal": [
        nothing_arrives(CLEAR, (("upgrade_blocked", "unknown"),), 15),
        nothing_arrives(GATEWAY, (("port_silent", "firewall"),), 11),
    ],
    "loses-subprotocol": [
        Case(CLEAR, (("subprotocol_lost", "transparent_proxy"),), 16, ("--subprotocol", "mqtt")),
        fine(GATEWAY, "--subprotocol", "mqtt"),
    ],
    # ---- TLS inspection
    "inspection": [
        Case(GATEWAY, INTERCEPTED, 0, corporate=True),
        Case(GATEWAY, INTERCEPTED, 13, ("--expect-issuer", "Lab Trust"), corporate=True),
        # Nobody here knows who issued it: it may as well be the server's own authority. The doctor goes on all the same.
        Case(GATEWAY, (("tls_untrusted", "unknown"),), 12),
        fine(CLEAR),
    ],
    "inspection-strips": [
        Case(GATEWAY, (*INTERCEPTED, ("upgrade_stripped", "tls_inspection")), 15, corporate=True,
             refused=frozenset({"upgrade_stripped"}), closed=frozenset()),
    ],
    "inspection-blocks": [
        nothing_arrives(GATEWAY, (*INTERCEPTED, ("upgrade_blocked", "tls_inspection")), 15, corporate=True),
    ],
    "inspection-cuts": [
        nothing_arrives(GATEWAY, (*INTERCEPTED, ("upgrade_blocked", "tls_inspection")), 15, corporate=True),
    ],
    # ---- nginx in front
    "nginx": [cut(FRONT, "reverse_proxy")],
    "nginx-pings": [fine(FRONT, *HELD)],
    "nginx-http10": [stripped(FRONT, "reverse_proxy", http="1.0", missing=None)],
    "nginx-no-headers": [stripped(FRONT, "reverse_proxy", missing=BOTH)],
    "nginx-untouched": [stripped(FRONT, "reverse_proxy", http="1.0", missing=BOTH)],
    # The plain probe waits for its minute; the doctor would take three.
    "nginx-default": [],
    "nginx-default-pings": [fine(FRONT, "--idle", "63s")],
    # ---- load balancers
    "lb": [cut(FRONT, "load_balancer", closed=frozenset({"client_closed", "reset"}))],
    "lb-pings": [fine(FRONT, *HELD)],
    "lb-tcp": [cut(FRONT, "load_balancer")],
    "lb-tcp-pings": [fine(FRONT, *HELD)],
    "lb-forgets": [cut(GATEWAY, "firewall", left_open=1, cut=FORGOTTEN)],
    "lb-forgets-pings": [fine(GATEWAY, *HELD)],
    "lb-forgets-late-pings": [cut(GATEWAY, "firewall", cut=FORGOTTEN, closed=frozenset({"client_closed", "pong_timeout"}))],
    # ---- proxies that are asked for
    "proxy": [
        fine(GATEWAY, "--proxy", PROXY),
        fine(GATEWAY, environment=(("HTTPS_PROXY", PROXY),)),
        works_elsewhere(DEVELOPMENT, (("proxy_refused", "http_proxy"),), 19, arguments=("--proxy", PROXY)),
        nothing_arrives(GATEWAY, (("proxy_unreachable", "http_proxy"),), 19, arguments=("--proxy", NO_PROXY)),
    ],
    "proxy-login": [
        fine(GATEWAY, "--proxy", LOGIN),
        nothing_arrives(GATEWAY, (("proxy_auth", "http_proxy"),), 19, arguments=("--proxy", PROXY)),
        nothing_arrives(GATEWAY, (("proxy_auth", "http_proxy"),), 19, arguments=("--proxy", WRONG_LOGIN)),
    ],
}
