"""What boxes are made of: probes of their behaviour, and programs that more than one of them runs."""

from lab import BOX, CLIENT, FRONT, GATEWAY, HTTP, HTTPS, SERVER, check
from probes import upgrade

# Where the proxies listen that connections are bent to, and the one that clients are told of.
BENT, PROXY = 3128, 3129
# Seconds after which the boxes that cut quiet connections do so, and by when a probe has to have seen it.
IDLE, SEEN_BY = 5, 9
NO_PINGS, PINGS, LATE_PINGS = "{clientPing: 0s}", "{clientPing: 1s}", "{clientPing: 7s, pongTimeout: 2s}"
# Where the names lead.
ADDRESSES = {GATEWAY: SERVER, FRONT: BOX}


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
        address = ADDRESSES[name]
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


def bend(*ports):
    """Rules that bend connections to ports of the far side to a proxy in the box."""
    rules = ", ".join(map(str, ports))
    return f"""
    chain bent {{
        type nat hook prerouting priority dstnat
        ip saddr {CLIENT} ip daddr {SERVER} tcp dport {{ {rules} }} redirect to :{BENT}
    }}
    """


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
