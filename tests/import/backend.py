"""The small backend of the traffic comparison: it says who it is and what it was asked for, and echoes.

A WebSocket gets one message with that at first, and then each of its own messages back. The first subprotocol that is offered is
chosen. Everything else is answered 200 with the same JSON.
"""

import asyncio
import base64
import hashlib
import json

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


async def read_head(reader):
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    return first.split(" "), headers


async def answer(reader, writer):
    address = writer.get_extra_info("sockname")
    try:
        (method, path, version), headers = await read_head(reader)
        about = {
            "backend": f"{address[0]}:{address[1]}",
            "method": method,
            "path": path,
            "host": headers.get("host", ""),
        }
        # RFC 6455 section 4.2.1: HTTP/1.1, and both headers.
        upgrade = version == "HTTP/1.1" and headers.get("upgrade", "").lower() == "websocket"
        if upgrade and "upgrade" in headers.get("connection", "").lower():
            await websocket(reader, writer, headers, about)
        else:
            body = json.dumps(about).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\n")
            writer.write(f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()
    except (OSError, asyncio.IncompleteReadError, ValueError):
        pass
    finally:
        writer.close()


async def websocket(reader, writer, headers, about):
    accept = base64.b64encode(hashlib.sha1((headers["sec-websocket-key"] + GUID).encode()).digest()).decode()
    answer = f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n"
    offered = headers.get("sec-websocket-protocol", "").split(",")[0].strip()
    if offered:
        answer += f"Sec-WebSocket-Protocol: {offered}\r\n"
    hello = json.dumps(about).encode()
    length = bytes([len(hello)]) if len(hello) < 126 else bytes([126]) + len(hello).to_bytes(2, "big")
    writer.write(answer.encode() + b"\r\n\x81" + length + hello)
    while True:
        await writer.drain()
        opcode, length = await reader.readexactly(2)
        mask, payload = await reader.readexactly(4), await reader.readexactly(length & 0x7F)
        payload = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        # Short frames are all that the comparison sends. A Close is answered by its like, and ends it.
        writer.write(bytes([opcode, len(payload)]) + payload)
        if opcode & 0x0F == 8:
            await writer.drain()
            return


async def serve(addresses):
    return [await asyncio.start_server(answer, host, port, reuse_address=True) for host, port in addresses]
