"""What nginx and Tidegate do differently on purpose: each with a test whether a pair of answers is one of it, and its reason.

Each test is as narrow as it can be: it says what both sides do. The first that fits counts, and each has to occur.
"""

import typing


class Probe(typing.NamedTuple):
    """One request and what came of it."""

    case: str
    host: str
    path: str
    tls: bool
    upgrade: bool
    # client.Answer of each.
    old: typing.Any
    new: typing.Any
    # What was compared, as text.
    nginx: str
    tidegate: str
    same_backend: bool


def reached(answer):
    return answer.outcome in ("101", "200") and bool(answer.backend)


def both_reached(probe):
    return reached(probe.old) and reached(probe.new) and probe.same_backend


def same_but(probe, *fields):
    """Both reached the same backend in the same way, but for these fields."""
    names = {"outcome", "path", "host", "subprotocol"} - set(fields)
    return both_reached(probe) and all(getattr(probe.old, name) == getattr(probe.new, name) for name in names)


def to_https(answer):
    return answer.outcome in ("301", "302", "308") and answer.location.startswith("https://")


def to_wss(probe):
    return probe.old.location.replace("https://", "wss://", 1) if probe.upgrade else None


DIFFERENCES = {
    "unknown hostname": (
        lambda p: p.host == "unknown.example.com" and p.new.reason in ("no_route", "misdirected"),
        "nginx has a default server for names that none has; Tidegate answers 404 or 421",
    ),
    "labels of a wildcard": (
        lambda p: p.host.startswith("b.c.") and reached(p.old) and p.new.reason == "no_route",
        '"*." stands for one label, as in certificates',
    ),
    "server of another port": (
        lambda p: p.case == "haproxy" and p.host.startswith("ticks.") and p.tls,
        "nginx has this name on 80 alone, and gives it to the default server on 443; a hostname has one set of rules here",
    ),
    "closed port 80": (
        lambda p: not p.tls and p.nginx == "refused" and p.new.reason in ("plaintext", "no_route"),
        "nginx does not listen; Tidegate does, and says what is wrong",
    ),
    "closed port 443": (
        lambda p: p.case == "grafana" and p.tls and p.nginx == "refused" and reached(p.new),
        "nginx does not listen; Tidegate serves the route there too, with a self-made certificate",
    ),
    "plain request to a WebSocket's path": (
        lambda p: not p.upgrade and (reached(p.old) or p.old.location == f"https://{p.host}{p.path}/") and p.new.outcome == "426",
        "nginx asks the backend, which can only refuse; Tidegate answers 426 itself, unless the rule has http: Forward",
    ),
    "path within an element": (
        lambda p: p.path.endswith("x") and reached(p.old) and p.new.reason == "no_route",
        "nginx compares bytes, Tidegate whole elements; the import notes each such location",
    ),
    "slash at the end": (
        lambda p: p.old.outcome == "301" and p.old.location.endswith(f"{p.host}{p.path}/") and reached(p.new),
        "nginx sends /ws on to /ws/, which WebSocket clients do not follow; Tidegate serves both",
    ),
    "slash at the end of a regular expression": (
        lambda p: p.case == "ingress-hash" and p.path in ("/room", "/lobby") and p.nginx == "404" and reached(p.new),
        "a prefix takes its path without the last slash too, where no other rule has it",
    ),
    "status of a redirect": (
        lambda p: not p.tls and to_https(p.old) and p.new.outcome == "308" and p.new.location in (p.old.location, to_wss(p)),
        "Tidegate sends on with 308, which keeps the method, and WebSocket clients to wss://",
    ),
    "redirect of paths without a rule": (
        lambda p: not p.tls and to_https(p.old) and p.new.reason == "no_route",
        "Tidegate sends on what it serves, and answers 404 for the rest at once",
    ),
    "upgrade through a plain proxy": (
        lambda p: p.upgrade and same_but(p, "outcome", "subprotocol") and (p.old.outcome, p.new.outcome) == ("200", "101"),
        "nginx takes upgrades off where its configuration does not pass them on; a rule here always passes them on",
    ),
    "rewritten path": (
        lambda p: p.case in ("mistakes", "whole-site") and same_but(p, "path"),
        "paths are not rewritten yet; the import notes it",
    ),
    "Host of the client": (
        lambda p: p.case == "mistakes" and same_but(p, "host") and p.old.host == "127.0.0.1:7001",
        "nginx sends the name in proxy_pass unless told otherwise; Tidegate sends the client's",
    ),
    "files": (
        lambda p: p.case == "socketio" and p.path.startswith("/static/") and p.nginx == "404" and reached(p.new),
        "Tidegate serves no files: these requests go to the rule for /, as the import's note says",
    ),
    "status page": (
        lambda p: p.case == "sites-enabled" and p.path.startswith("/metrics") and p.nginx == "200" and p.new.reason == "no_route",
        "nginx's own status has no counterpart on the data port",
    ),
    "regular expression left out": (
        lambda p: p.case == "ingress-hash" and p.path == "/v2/room" and reached(p.old) and p.new.reason == "no_route",
        "it is more than a few literal paths; the import notes it",
    ),
}
