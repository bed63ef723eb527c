"""The client of the traffic comparison: one request over a raw socket, and what came of it in one line."""

import base64
import hashlib
import json
import os
import socket
import ssl

from backend import GUID

PATIENCE = 10


class Answer:
    """What a request led to."""

    def __init__(self, outcome, **about):
        self.outcome = outcome
        self.backend = about.get("backend", "")
        self.path = about.get("path", "")
        self.host = about.get("host", "")
        self.subprotocol = about.get("subprotocol", "")
        self.location = about.get("location", "")
        self.reason = about.get("reason", "")


def ask(port, tls, host, path, upgrade, subprotocol="", extra=()):
    """One request to a port of this namespace: an upgrade with an echo, or a GET."""
    try:
        raw = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    except ConnectionRefusedError:
        return Answer("refused")
    try:
        with raw:
            if tls:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                with context.wrap_socket(raw, server_hostname=host) as secure:
                    return request(secure, host, path, upgrade, subprotocol, extra)
            return request(raw, host, path, upgrade, subprotocol, extra)
    except (ConnectionError, ssl.SSLError, EOFError):
        return Answer("closed")
    except TimeoutError:
        return Answer("no answer")


def request(stream, host, path, upgrade, subprotocol, extra):
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}", *extra]
    if upgrade:
        lines += ["Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13"]
        if subprotocol:
            lines.append(f"Sec-WebSocket-Protocol: {subprotocol}")
    else:
        lines.append("Connection: close")
    stream.sendall("\r\n".join([*lines, "", ""]).encode())
    file = stream.makefile("rb")
    first = file.readline()
    if not first:
        return Answer("closed")
    status = int(first.split(b" ")[1])
    headers = {}
    while (line := file.readline().strip()):
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    if status == 101:
        return echo(stream, file, key, headers)
    about = {"location": headers.get("location", ""), "reason": headers.get("tidegate-reason", "")}
    if status == 200 and headers.get("content-type") == "application/json":
        about |= json.loads(file.read(int(headers["content-length"])))
    return Answer(str(status), **about)


def echo(stream, file, key, headers):
    wanted = base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()
    if headers.get("sec-websocket-accept") != wanted:
        return Answer("101 with a wrong accept")
    about = json.loads(frame(file))
    message = os.urandom(8).hex().encode()
    send(stream, 0x1, message)
    if frame(file) != message:
        return Answer("101 without an echo")
    send(stream, 0x8, (1000).to_bytes(2, "big"))
    if frame(file) != (1000).to_bytes(2, "big"):
        return Answer("101 without a goodbye")
    return Answer("101", subprotocol=headers.get("sec-websocket-protocol", ""), **about)


def send(stream, opcode, payload):
    mask = os.urandom(4)
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    stream.sendall(bytes([0x80 | opcode, 0x80 | len(payload)]) + mask + masked)


def frame(file):
    head = file.read(2)
    if len(head) < 2:
        raise EOFError
    length = head[1]
    if length == 126:
        length = int.from_bytes(file.read(2), "big")
    return file.read(length)
