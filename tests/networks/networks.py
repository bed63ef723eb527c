"""Boxes on the way between a client and Tidegate, real ones, in network namespaces; see boxes.py for which.

For each: a plain probe shows that the box does what it claims; `tidegate doctor` names it and blames no other; and
Tidegate's counters and log show the same from the gateway's side. What is expected is in expected.py.

All of it happens in namespaces of this run (network, mounts, processes), which end with it, however it ends.
"""

import argparse
import concurrent.futures
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback

from boxes import BOXES
from doctor import ask
from expected import EXPECTED
from lab import HOSTS, Failure, Lab, Settings, command

# Most of the time a box waits: for silence to be cut, for a SYN to be given up.
TOGETHER = 6
TAIL = 1500

printing = threading.Lock()


def say(text):
    with printing:
        print(f"networks: {text}", flush=True)


def isolate():
    """Runs this program again in namespaces of its own. Its end is theirs: whatever runs in them is killed then."""
    words = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    child = subprocess.Popen([*words, sys.executable, *sys.argv], env=os.environ | {"TIDEGATE_NETWORKS_INSIDE": "1"})
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return child.wait()
    except KeyboardInterrupt:
        return 130
    finally:
        child.kill()
        child.wait()


def furnish():
    """Mounts of this run: an empty /run, for names of namespaces and all files, and names that resolve without DNS. Gives a
    folder in it, which goes with the mount; programs that gave up root can read it."""
    for folder in ["/run", "/dev/shm"]:  # squid has shared memory
        command("mount", "-t", "tmpfs", "tmpfs", folder)
    state = pathlib.Path("/run/lab")
    state.mkdir()
    for name, text in [("hosts", HOSTS), ("resolv.conf", "nameserver 127.0.0.1\n")]:
        (state / name).write_text(text, encoding="utf-8")
        # A link into /run leads nowhere now. Without such a file the system's library asks 127.0.0.1.
        if os.path.exists(f"/etc/{name}"):
            command("mount", "--bind", str(state / name), f"/etc/{name}")
    return state


def run_box(name, settings):
    """Gives the error, or None."""
    begun, lab = time.monotonic(), None
    try:
        box = BOXES[name]()
        lab = Lab(name, settings, box)
        box.start(lab)
        box.probe(lab)
        ask(lab, name)
        say(f"ok    {name} ({time.monotonic() - begun:.1f} s)")
        return None
    except Exception as error:  # whatever it is, the other boxes are looked at too
        return error
    finally:
        if lab:
            lab.end()


def report(name, error, settings, kept):
    text = str(error) if isinstance(error, Failure) else f"{type(error).__name__}: {error}"
    say(f"FAILED {name}: {text}")
    kept = kept / name
    shutil.copytree(settings.state / name, kept, ignore_dangling_symlinks=True, dirs_exist_ok=True)
    for log in sorted(kept.rglob("*.log")):
        tail = log.read_text(encoding="utf-8", errors="replace")[-TAIL:]
        if tail:
            print(f"--- {log}\n{tail}")
    if not isinstance(error, Failure):
        traceback.print_exception(error)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tidegate", required=True, help="the program")
    parser.add_argument("--mitmdump", required=True, help="mitmproxy's program without a screen")
    parser.add_argument("--kept", required=True, type=pathlib.Path, help="where the files of failed boxes go")
    parser.add_argument("boxes", nargs="*", metavar="BOX", help=f"default: all of {', '.join(BOXES)}")
    arguments = parser.parse_args()
    unknown = set(arguments.boxes) - set(BOXES)
    if unknown:
        parser.error(f"no such box: {', '.join(sorted(unknown))}")
    if os.environ.get("TIDEGATE_NETWORKS_INSIDE") != "1":
        sys.exit(isolate())
    if set(EXPECTED) != set(BOXES):
        sys.exit(f"networks: {set(EXPECTED) ^ set(BOXES)} is in boxes.py alone, or in expected.py alone")
    # As the first process of its namespace it has no default for it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    begun = time.monotonic()
    settings = Settings(arguments.tidegate, arguments.mitmdump, furnish())
    chosen = [name for name in BOXES if not arguments.boxes or name in arguments.boxes]
    with concurrent.futures.ThreadPoolExecutor(TOGETHER) as pool:
        errors = list(pool.map(lambda name: (name, run_box(name, settings)), chosen))
    failed = [(name, error) for name, error in errors if error]
    for name, error in failed:
        report(name, error, settings, arguments.kept)
    seconds = time.monotonic() - begun
    if failed:
        sys.exit(f"networks: {len(failed)} of {len(chosen)} boxes failed, {seconds:.0f} s; their files: {arguments.kept}")
    say(f"{len(chosen)} boxes in {seconds:.0f} s")


if __name__ == "__main__":
    main()
