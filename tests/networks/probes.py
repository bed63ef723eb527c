"""A plain WebSocket client without a library: shows what a box does to a connection, before the doctor is asked.

Every function runs in the namespace of the client (`Namespace.call`).
"""

import base64
import errno
import hashlib
import os
import socket
import ssl
import time

from lab import Failure, check

# Seconds for answers; and for the first one of all, which leaves time for a second SYN.
TIMEOUT = 5.0
CONNECT_TIMEOUT = 2.5
PING, PONG = 0x89, 0x8A
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Answer:
    """An HTTP answer's head, and the socket that it came by."""

    def __init__(self, stream, head, rest, key):
        first, *lines = head.decode("latin-1").split("\r\n")
        self.stream, self.rest, self.key = stream, rest, key
        self.version, status, *_ = first.split(" ", 2)
        self.status = int(status)
        self.headers = {}
        for line in lines:
            name, value = line.split(":", 1)
            self.headers[name.lower()] = value.strip()
        if self.status != 101:
            stream.close()

    def granted(self):
        """Whether it is the 101 of RFC 6455."""
        accept = base64.b64encode(hashlib.sha1((self.key + GUID).encode()).digest()).decode()
        headers = self.headers
        return (
            self.status == 101
            and headers.get("upgrade", "").lower() == "websocket"
            and "upgrade" in headers.get("connection", "").lower()
            and headers.get("sec-websocket-accept") == accept
        )

    def echo(self, text):
        """Sends a short message, and gives the one that comes back. Pings on the way are answered."""
        self.send(0x81, text.encode())
        while True:
            first, payload = self.frame()
            if first != PING:
                return first, payload.decode()
            self.send(PONG, payload)

    def cut_after(self, limit):
        """Stays quiet but for answers to pings. Gives the seconds until the connection ends, or None if it lasts."""
        begun = time.monotonic()
        try:
            while (left := limit - (time.monotonic() - begun)) > 0:
                self.stream.settimeout(left)
                first, payload = self.frame()
                if first == PING:
                    self.send(PONG, payload)
        except TimeoutError:
            pass
        except (Failure, ConnectionError, ssl.SSLError):
            return time.monotonic() - begun
        self.stream.settimeout(TIMEOUT)
        return None

    def send(self, first, data):
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
        self.stream.sendall(bytes([first, 0x80 | len(data)]) + mask + masked)

    def frame(self):
        """The next frame, a short one: its first byte and its payload. What a time-out cuts short is read on next time."""
        while len(self.rest) < 2 or len(self.rest) < 2 + (self.rest[1] & 0x7F):
            more = self.stream.recv(4096)
            check(more, "the connection ended")
            self.rest += more
        end = 2 + (self.rest[1] & 0x7F)
        frame, self.rest = self.rest[:end], self.rest[end:]
        return frame[0], frame[2:]


def connect(address, port):
    """How a TCP connection goes: a socket, or one of the words refused, reset, silent, unreachable."""
    try:
        stream = socket.create_connection((address, port), timeout=CONNECT_TIMEOUT)
        stream.settimeout(TIMEOUT)
        return stream
    except TimeoutError:
        return "silent"
    except ConnectionRefusedError:
        return "refused"
    except ConnectionResetError:
        return "reset"
    except OSError as error:
        if error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
            return "unreachable"
        raise


def reaches(address, port):
    stream = connect(address, port)
    if isinstance(stream, str):
        return stream
    stream.close()
    return "connected"


def read_head(stream):
    head = b""
    while b"\r\n\r\n" not in head:
        more = stream.recv(4096)
        check(more, f"the connection ended within a head: {head!r}")
        head += more
    head, rest = head.split(b"\r\n\r\n", 1)
    return head, rest


def secure(stream, name, authority):
    context = ssl.create_default_context(cafile=authority)
    context.set_alpn_protocols(["http/1.1"])
    return context.wrap_socket(stream, server_hostname=name)


def issuer(address, port, name, authority):
    """The common name of who issued the certificate that is shown."""
    with secure(connect(address, port), name, authority) as stream:
        fields = dict(pair for group in stream.getpeercert()["issuer"] for pair in group)
        return fields["commonName"]


def upgrade(address, port, name, authority=None, path="/ws", subprotocol=None, stream=None):
    """Asks for a WebSocket, over TLS where an authority is given."""
    stream = stream or connect(address, port)
    if isinstance(stream, str):
        raise Failure(f"{address}:{port} is {stream}")
    if authority:
        stream = secure(stream, name, authority)
    key = base64.b64encode(os.urandom(16)).decode()
    head = f"GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    head += f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
    if subprotocol:
        head += f"Sec-WebSocket-Protocol: {subprotocol}\r\n"
    stream.sendall(f"{head}\r\n".encode())
    return Answer(stream, *read_head(stream), key)


def tunnel(proxy, port, target, credentials=None):
    """Asks a proxy to CONNECT: the status, and the socket if that was granted."""
    stream = connect(proxy, port)
    if isinstance(stream, str):
        raise Failure(f"the proxy is {stream}")
    head = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"
    if credentials:
        head += f"Proxy-Authorization: Basic {base64.b64encode(credentials.encode()).decode()}\r\n"
    stream.sendall(f"{head}\r\n".encode())
    answer, _ = read_head(stream)
    status = int(answer.split(b" ")[1])
    if status != 200:
        stream.close()
        return status, None
    return status, stream
