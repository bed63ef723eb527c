#!/usr/bin/env python3
"""Writes a container image of one layer as a docker-archive that `ctr images import` reads. Needs no container tool.

The same input gives the same bytes: times are zero and owners root unless told otherwise.
"""

import argparse
import hashlib
import io
import json
import os
import platform
import tarfile

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, help="the archive to write")
    parser.add_argument("--reference", required=True, help="full name of the image, e.g. docker.io/library/x:test")
    parser.add_argument("--user", default="0", help="UID or UID:GID that the container runs as")
    parser.add_argument("--workdir", default="/")
    parser.add_argument("--entrypoint", action="append", default=[])
    parser.add_argument("--cmd", action="append", default=[])
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--port", action="append", default=[], metavar="PORT/PROTOCOL")
    parser.add_argument("--file", action="append", default=[], metavar="SOURCE:PATH:MODE")
    parser.add_argument("--directory", action="append", default=[], metavar="PATH:MODE[:UID]")
    return parser.parse_args()


def layer_entries(args: argparse.Namespace):
    """Yields (path, TarInfo, bytes), parents first, in order of their paths."""
    entries = {}

    def directory(path: str, mode: int = 0o755, uid: int = 0) -> None:
        path = path.strip("/")
        if not path:
            return
        directory(os.path.dirname(path))
        if path in entries and mode == 0o755:
            return
        info = tarfile.TarInfo(path)
        info.type, info.mode, info.uid, info.gid = tarfile.DIRTYPE, mode, uid, uid
        entries[path] = (info, b"")

    for spec in args.directory:
        path, mode, *uid = spec.split(":")
        directory(path, int(mode, 8), int(uid[0]) if uid else 0)
    for spec in args.file:
        source, path, mode = spec.rsplit(":", 2)
        path = path.strip("/")
        directory(os.path.dirname(path))
        with open(source, "rb") as file:
            data = file.read()
        info = tarfile.TarInfo(path)
        info.size, info.mode = len(data), int(mode, 8)
        entries[path] = (info, data)
    for path in sorted(entries):
        yield entries[path]


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def main() -> None:
    args = arguments()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        for info, data in layer_entries(args):
            layer.addfile(info, io.BytesIO(data))
    layer_bytes = buffer.getvalue()
    config = {
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {
            "User": args.user,
            "WorkingDir": args.workdir,
            "Entrypoint": args.entrypoint,
            "Cmd": args.cmd,
            "Env": args.env,
            "ExposedPorts": {port: {} for port in args.port},
        },
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer_bytes).hexdigest()]},
    }
    config_bytes = json.dumps(config, sort_keys=True).encode()
    config_name = hashlib.sha256(config_bytes).hexdigest() + ".json"
    manifest = [{"Config": config_name, "RepoTags": [args.reference], "Layers": ["layer.tar"]}]
    part = f"{args.out}.{os.getpid()}.part"
    with tarfile.open(part, "w") as archive:
        add(archive, "layer.tar", layer_bytes)
        add(archive, config_name, config_bytes)
        add(archive, "manifest.json", json.dumps(manifest).encode())
    os.replace(part, args.out)


if __name__ == "__main__":
    main()
