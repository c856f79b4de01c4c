"""Requests of all kinds leave nothing behind. BITNET_LEAK_REQUESTS sets how many (default 300)."""

import concurrent.futures
import os
import pathlib
import random
import re
import socket
import unittest

from server_process import SANITIZERS, Server

REQUESTS = int(os.environ.get("BITNET_LEAK_REQUESTS", "300"))
HEADER = "POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"


def exchange(port: int, kind: int, number: int):
    with socket.create_connection(("127.0.0.1", port), timeout=60) as s:
        body = b'{"prompt":"Once upon %d","max_tokens":%d,"stream":%s}' % (
            number % 50, random.randint(1, 24), b"true" if kind % 2 else b"false")
        head = HEADER.format(len(body)).encode()
        if kind < 3:  # read the whole answer
            s.sendall(head.replace(b"Host: a", b"Host: a\r\nConnection: close") + body)
            answer = b""
            while piece := s.recv(65536):
                answer += piece
            if not re.match(rb"HTTP/1.1 (200|429|503) ", answer):
                raise AssertionError(answer[:200])
        elif kind == 3:  # leave at once
            s.sendall(head + body)
        elif kind == 4:  # leave in the middle of the answer
            s.sendall(head + b'{"prompt":"Once upon a time","max_tokens":200,"stream":true}'.ljust(len(body))[:len(body)])
            s.recv(100)
        elif kind == 5:  # a body that is no JSON
            s.sendall(head + b"x" * len(body))
            s.recv(65536)
        elif kind == 6:  # no HTTP
            s.sendall(b"\x16\x03\x01\x00" * 10)
            s.recv(65536)
        else:  # a body that never comes: the server's time-out, or the client leaves first
            s.sendall(head + body[:10])
            if number % 20 == 0:
                s.recv(65536)


class Leaks(unittest.TestCase):
    def measure(self, server):
        process = pathlib.Path(f"/proc/{server.process.pid}")
        status = (process / "status").read_text()
        return {
            "descriptors": len(list((process / "fd").iterdir())),
            "threads": int(re.search(r"Threads:\s+(\d+)", status)[1]),
            "resident_kib": int(re.search(r"VmRSS:\s+(\d+)", status)[1]),
        }

    def figures(self, server):
        text = server.get("/metrics").body.decode()
        names = ("requests_active", "num_requests_running", "num_requests_waiting", "kv_cache_usage_perc",
                 "http_connections_open")
        return {name: float(re.search(rf"^bitnet_{name} (\S+)", text, re.M)[1]) for name in names}

    def run_mix(self, server, count):
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            for done in [pool.submit(exchange, server.port, random.randrange(8), i) for i in range(count)]:
                try:
                    done.result()
                except (ConnectionError, socket.timeout):
                    pass

        def quiet():
            f = self.figures(server)
            f["http_connections_open"] -= 1  # this one
            return not any(f.values())

        server.wait_until(quiet, 60, "no sequence, KV block or connection is left")

    def test_mixed_requests_leave_nothing_behind(self):
        random.seed(1)
        options = ("--health.startup-grace=0s", "--http.header-timeout=2s",
                   "--health.memory-degraded-percent=99", "--health.memory-unhealthy-percent=100")
        with Server(*options) as server:
            server.wait_ready()
            self.run_mix(server, max(100, REQUESTS // 5))  # allocator, caches and threads reach their size
            before = self.measure(server)
            self.run_mix(server, REQUESTS)
            after = {}

            def settled():
                after.update(self.measure(server))  # a thread that has done its work may still be on its way out
                return all(after[what] <= before[what] for what in ("descriptors", "threads"))

            server.wait_until(settled, 10, f"no descriptor and no thread is left; before {before}, after {after}")
            print(f"{REQUESTS} requests: before {before}, after {after}")
            if "address" not in SANITIZERS:  # which keeps what is freed; at the end it tells what is not
                self.assertLess(after["resident_kib"], before["resident_kib"] * 1.1 + 4096)


if __name__ == "__main__":
    unittest.main()
