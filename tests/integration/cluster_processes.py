"""Certificates and groups of real servers that form a cluster on loopback ports."""

import contextlib
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time

from server_process import SLOWDOWN, Server


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Authority:
    """A certificate authority of its own, in a folder that goes with it."""

    def __init__(self, name: str = "cluster"):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="bitnet-ca-"))
        self.certificate = self.folder / "ca.pem"
        self._openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", f"/CN={name}", "-keyout", self.folder / "ca.key", "-out", self.certificate,
        )

    def _openssl(self, *arguments):
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)

    def issue(self, name: str, san: str = "IP:127.0.0.1") -> tuple[pathlib.Path, pathlib.Path]:
        """A certificate and its key for `san`."""
        key, request, certificate = (self.folder / f"{name}.{e}" for e in ("key", "csr", "pem"))
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={san}\nextendedKeyUsage=serverAuth,clientAuth\n")
        self._openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
            "-keyout", key, "-out", request,
        )
        self._openssl(
            "x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.folder / "ca.key",
            "-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", certificate,
        )
        return certificate, key

    def options(self, name: str, san: str = "IP:127.0.0.1") -> list[str]:
        certificate, key = self.issue(name, san)
        return [
            f"--cluster.tls-certificate={certificate}",
            f"--cluster.tls-key={key}",
            f"--cluster.tls-ca={self.certificate}",
        ]

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)


class Cluster:
    """`size` servers on loopback, each with a certificate of its own; use as a context manager."""

    def __init__(self, size: int, *options: str):
        self.authority = Authority()
        self.ports = [free_port() for _ in range(size)]
        self.options = options
        self.servers: list[Server] = []

    def start(self, index: int) -> Server:
        seeds = ",".join(f"127.0.0.1:{p}" for p in self.ports)
        return Server(
            f"--cluster.port={self.ports[index]}",
            f"--cluster.seeds=[{seeds}]",
            *self.authority.options(f"node{index}"),
            "--health.startup-grace=0s",
            "--engine.threads=1",
            *self.options,
        )

    def __enter__(self):
        self.servers = [self.start(i) for i in range(len(self.ports))]
        for server in self.servers:
            server.__enter__().wait_ready()
        self.wait_alive(range(len(self.ports)))
        return self

    def __exit__(self, *_):
        for server in self.servers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(server.process.pid, 18)  # SIGCONT, or it cannot end
            server.stop()
        self.authority.close()

    def members(self, index: int) -> dict[str, dict]:
        """The members as one node sees them, by address; of several processes at an address the latest."""
        found = {}
        for member in sorted(self.servers[index].get("/cluster").json()["members"], key=lambda m: m["incarnation"]):
            found[member["address"]] = member
        return found

    def state(self, seen_by: int, of: int) -> str:
        return self.members(seen_by).get(self.address(of), {}).get("state", "unknown")

    def wait_alive(self, indexes, seconds: float = 15):
        indexes = list(indexes)

        def all_alive():
            return all(self.state(i, j) == "alive" and self.takes_requests(i, j) for i in indexes for j in indexes)

        self.servers[indexes[0]].wait_until(all_alive, seconds, f"nodes {indexes} see each other and their workers")

    def address(self, index: int) -> str:
        return f"127.0.0.1:{self.ports[index]}"

    def takes_requests(self, seen_by: int, of: int) -> bool:
        return self.members(seen_by)[self.address(of)]["routed"]

    def wait_serving(self, index: int, streams: int = 1):
        """Until a node works on that many streams of others."""
        self.servers[index].wait_until(
            lambda: self.servers[index].get("/cluster").json()["streams"]["served"] >= streams, 10,
            f"node {index} serves {streams} streams of others")

    def moved(self, index: int) -> int:
        """Streams of a node that went on elsewhere after their node was lost or fell silent, since it started."""
        text = self.servers[index].get("/metrics").body.decode()
        return sum(int(float(re.search(rf"^bitnet_cluster_{why}_streams_total (\S+)$", text, re.M)[1]))
                   for why in ("lost", "stalled"))

    def wait_state(self, seen_by: int, of: int, state: str, seconds: float = 10):
        self.servers[seen_by].wait_until(
            lambda: self.state(seen_by, of) == state, seconds, f"node {seen_by} sees node {of} {state}")


class Stream(threading.Thread):
    """One streamed completion: its text, the longest gap between two pieces, and how it ended."""

    def __init__(self, server: Server, body: dict):
        super().__init__(daemon=True)
        self.server, self.body = server, body
        self.text, self.longest_gap, self.error, self.done = "", 0.0, None, False

    def run(self):
        import json

        last = time.monotonic()
        try:
            for data in self.server.stream("/v1/completions", self.body):
                now = time.monotonic()
                self.longest_gap, last = max(self.longest_gap, now - last), now
                if data == "[DONE]":
                    self.done = True
                    break
                event = json.loads(data)
                if "error" in event:
                    self.error = event["error"]
                    break
                self.text += event["choices"][0]["text"]
        except (OSError, AssertionError) as e:
            self.error = repr(e)
