"""Three real nodes under load: whatever happens to one, no stream of another is lost or altered."""

import os
import shutil
import signal
import socket
import ssl
import time
import unittest

from cluster_processes import Authority, Cluster, Stream, free_port
from server_process import SLOWDOWN, Server

# The demo model is quick: these take it about a second.
TOKENS = 1000
STREAMS = 24


def body(seed: int) -> dict:
    return {"prompt": "Once upon a time", "max_tokens": TOKENS, "temperature": 0.8, "seed": seed, "ignore_eos": True}


class ClusterTest(unittest.TestCase):
    def run_streams(self, cluster, count: int, break_something):
        """Streams at node 0 while `break_something` happens; each must be what a lone node says."""
        expected = {}
        for seed in range(count):
            answer = cluster.servers[0].post("/v1/completions", body(seed))
            self.assertEqual(answer.status, 200, answer.body)
            expected[seed] = answer.json()["choices"][0]["text"]
        streams = [Stream(cluster.servers[0], body(seed)) for seed in range(count)]
        for s in streams:
            s.start()
        break_something(streams)
        for s in streams:
            s.join(60 * SLOWDOWN)
        for seed, s in enumerate(streams):
            self.assertIsNone(s.error)
            self.assertTrue(s.done, "the stream did not end")
            self.assertEqual(s.text, expected[seed], "the stream was altered")
        return max(s.longest_gap for s in streams)

    def test_no_stream_is_lost_when_a_node_is_killed(self):
        with Cluster(3) as c:
            def kill(_):
                c.wait_serving(1, STREAMS // 6)
                c.servers[1].process.kill()

            gap = self.run_streams(c, STREAMS, kill)
            self.assertLess(gap, 1.5 * SLOWDOWN)
            self.assertGreater(c.moved(0), 0)
            c.wait_state(0, 1, "dead")
            c.wait_state(2, 1, "dead")
            # The rest is as well as before, and says who is missing.
            self.assertEqual(c.servers[0].get("/health/ready").status, 200)
            component = c.servers[0].get("/health").json()["components"]["cluster"]
            self.assertIn("not reachable", component["message"])
            # It comes back as another node at the same place.
            c.servers[1].stop()
            c.servers[1] = c.start(1)
            c.servers[1].__enter__().wait_ready()
            c.wait_alive(range(3))

    def test_no_stream_is_lost_when_a_node_stops_answering(self):
        with Cluster(3) as c:
            def stop(_):
                c.wait_serving(1, STREAMS // 6)
                c.servers[1].signal(signal.SIGSTOP)

            gap = self.run_streams(c, STREAMS, stop)
            self.assertLess(gap, 6 * SLOWDOWN)
            self.assertGreater(c.moved(0), 0)
            c.wait_state(0, 1, "dead")
            c.servers[1].signal(signal.SIGCONT)
            c.wait_alive(range(3))
            for server in c.servers:
                server.wait_until(lambda s=server: s.get("/health/ready").status == 200, 15, "ready again")

    def test_a_leaving_node_hands_its_streams_over(self):
        with Cluster(3) as c:
            def leave(_):
                c.wait_serving(1, STREAMS // 6)
                c.servers[1].signal(signal.SIGTERM)

            gap = self.run_streams(c, STREAMS, leave)
            self.assertLess(gap, 1.5 * SLOWDOWN)
            c.wait_state(0, 1, "left")
            self.assertEqual(c.servers[1].stop(), 0)

    def test_another_model_is_refused_with_the_reason(self):
        authority = Authority()
        try:
            port = free_port()
            with Server(f"--cluster.port={port}", *authority.options("a")) as one:
                other = Server(
                    f"--cluster.port={free_port()}", f"--cluster.seeds=127.0.0.1:{port}", *authority.options("b"),
                    model=self.other_model(authority.folder),
                )
                with other:
                    one.wait_until(
                        lambda: any("a cluster serves one model" in line for line in one.log), 20, "the reason is logged")
                    self.assertEqual(len(one.get("/cluster").json()["members"]), 1)
        finally:
            authority.close()

    def other_model(self, folder):
        from server_process import DEMO_MODEL

        changed = folder / "other.gguf"
        shutil.copy(DEMO_MODEL, changed)
        with open(changed, "r+b") as f:  # the last weights differ
            f.seek(-64, os.SEEK_END)
            block = f.read(1)
            f.seek(-64, os.SEEK_END)
            f.write(bytes([block[0] ^ 1]))
        return changed

    def test_certificates_are_needed_unless_plaintext_is_asked_for(self):
        from server_process import run_server

        result = run_server(f"--cluster.port={free_port()}")
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("cluster.tls-certificate", result.stderr)

    def test_strangers_get_nowhere(self):
        authority, stranger = Authority(), Authority("stranger")
        try:
            port = free_port()
            with Server(f"--cluster.port={port}", *authority.options("node")) as node:
                wrong_name = authority.issue("wrong", "IP:127.0.0.9")
                attempts = {
                    "no certificate": (None, authority.certificate),
                    "another authority": (stranger.issue("x"), authority.certificate),
                }
                for name, (pair, ca) in attempts.items():
                    with self.subTest(name):
                        self.assertEqual(self.talk(port, ca, pair), b"")
                # The right authority, but a greeting that claims a place that the certificate does not name.
                with self.subTest("wrong name"):
                    intruder = Server(
                        f"--cluster.port={free_port()}", f"--cluster.seeds=127.0.0.1:{port}",
                        f"--cluster.tls-certificate={wrong_name[0]}", f"--cluster.tls-key={wrong_name[1]}",
                        f"--cluster.tls-ca={authority.certificate}")
                    with intruder:
                        time.sleep(3)
                        self.assertEqual(len(node.get("/cluster").json()["members"]), 1)
                with self.subTest("plaintext"), socket.create_connection(("127.0.0.1", port)) as s:
                    s.settimeout(10 * SLOWDOWN)
                    s.sendall(b"\x10\x00\x00\x00" + b"x" * 16)
                    self.assertEqual(self.rest(s)[:1] in (b"", b"\x15"), True)  # closed, or a TLS alert
                with self.subTest("silent"), socket.create_connection(("127.0.0.1", port)) as s:
                    s.settimeout(10 * SLOWDOWN)
                    began = time.monotonic()
                    self.assertEqual(self.rest(s), b"")
                    self.assertLess(time.monotonic() - began, 8 * SLOWDOWN)
                with self.subTest("five hundred"):
                    files = len(os.listdir(f"/proc/{node.process.pid}/fd"))
                    crowd = [socket.create_connection(("127.0.0.1", port)) for _ in range(500)]
                    time.sleep(0.5)
                    self.assertLess(len(os.listdir(f"/proc/{node.process.pid}/fd")), files + 100)
                    self.assertEqual(node.get("/health/live").status, 200)
                    for s in crowd:
                        s.close()
        finally:
            authority.close()
            stranger.close()

    def rest(self, s) -> bytes:
        received = b""
        try:
            while data := s.recv(4096):
                received += data
        except (ConnectionError, ssl.SSLError):
            pass
        return received

    def talk(self, port, ca, pair) -> bytes:
        """What a TLS client with this certificate hears."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(ca)
        if pair:
            context.load_cert_chain(*pair)
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.settimeout(10 * SLOWDOWN)
            try:
                with context.wrap_socket(raw, server_hostname="127.0.0.1") as s:
                    return self.rest(s)
            except (ConnectionError, ssl.SSLError):
                return b""


if __name__ == "__main__":
    unittest.main()
