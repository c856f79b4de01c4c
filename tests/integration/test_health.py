"""The promises of the health document, over real sockets against the real server."""

import datetime
import json
import re
import signal
import threading
import time
import unittest

from server_process import SLOWDOWN, Server

PROBES = ("/health", "/health/live", "/health/ready")
# Thresholds that the memory of any machine crosses, or that none reaches.
ALWAYS_DEGRADED = ("--health.memory-degraded-percent=0.01", "--health.memory-unhealthy-percent=100")
ALWAYS_UNHEALTHY = ("--health.memory-degraded-percent=0.01", "--health.memory-unhealthy-percent=0.02")
NEVER_DEGRADED = ("--health.memory-degraded-percent=99", "--health.memory-unhealthy-percent=100")
NO_GRACE = "--health.startup-grace=0s"

BUILD_KEYS = {
    "version", "git_sha", "git_branch", "build_timestamp",
    "rustc_version", "cargo_target", "cargo_profile",
    "compiler_version", "target", "profile",
}
COMPONENT_KEYS = {"status", "message", "last_check", "response_time_ms"}
METRIC_KEYS = {
    "active_requests", "total_requests", "error_rate_percent", "avg_response_time_ms",
    "memory_usage_mb", "tokens_per_second", "cpu_usage_percent",
}
# Keeps the demo model busy for a second or more on a fast machine.
LONG_REQUEST = {"prompt": "Once upon a time", "max_tokens": 800, "n": 8, "seed": 1, "ignore_eos": True}
RFC_3339_UTC = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")


def age_in_seconds(stamp: str) -> float:
    then = datetime.datetime.fromisoformat(stamp.replace("Z", "+00:00"))
    return (datetime.datetime.now(datetime.timezone.utc) - then).total_seconds()


class HealthyServer(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(NO_GRACE, *NEVER_DEGRADED).__enter__().wait_ready()

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def test_health_has_every_key_of_the_schema(self):
        answer = self.server.get("/health")
        self.assertEqual(answer.status, 200)
        self.assertTrue(answer.headers["content-type"].startswith("application/json"))
        document = answer.json()
        self.assertEqual(document["status"], "healthy")
        self.assertRegex(document["timestamp"], RFC_3339_UTC)
        self.assertLess(abs(age_in_seconds(document["timestamp"])), 2 * SLOWDOWN)
        self.assertIsInstance(document["uptime_seconds"], (int, float))
        self.assertRegex(document["version"], r"^\d+\.\d+\.\d+$")
        self.assertLessEqual(BUILD_KEYS, document["build"].keys())
        for key in BUILD_KEYS:
            self.assertTrue(document["build"][key], key)
        self.assertEqual(document["build"]["rustc_version"], document["build"]["compiler_version"])
        self.assertEqual(document["build"]["cargo_target"], document["build"]["target"])
        self.assertEqual(document["build"]["cargo_profile"], document["build"]["profile"])
        self.assertRegex(document["build"]["build_timestamp"], RFC_3339_UTC)
        self.assertLessEqual({"model", "memory", "inference_engine"}, document["components"].keys())
        for name, component in document["components"].items():
            self.assertLessEqual(COMPONENT_KEYS, component.keys(), name)
            self.assertEqual(component["status"], "healthy", component)
            self.assertTrue(component["message"], name)
            self.assertRegex(component["last_check"], RFC_3339_UTC)
            self.assertLess(age_in_seconds(component["last_check"]), 10 * SLOWDOWN, name)
            self.assertGreaterEqual(component["response_time_ms"], 0)
        self.assertLessEqual(METRIC_KEYS, document["metrics"].keys())
        for name, value in document["metrics"].items():
            self.assertIsInstance(value, (int, float), name)

    def test_live_answers_status_and_timestamp_alone(self):
        answer = self.server.get("/health/live")
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.json().keys(), {"status", "timestamp"})

    def test_probes_are_never_cached(self):
        for path in PROBES:
            self.assertEqual(self.server.get(path).headers["cache-control"], "no-store", path)

    def test_head_answers_the_headers_of_get_without_a_body(self):
        for path in PROBES:
            head = self.server.request("HEAD", path)
            self.assertEqual(head.status, 200, path)
            self.assertEqual(head.body, b"")
            self.assertGreater(int(head.headers["content-length"]), 0)
            self.assertEqual(head.headers["cache-control"], "no-store")

    def test_other_methods_are_refused_with_allow(self):
        for path in PROBES:
            for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
                answer = self.server.request(method, path)
                self.assertEqual(answer.status, 405, f"{method} {path}")
                self.assertEqual({m.strip() for m in answer.headers["allow"].split(",")}, {"GET", "HEAD"})
                self.assertIn("error", answer.json())

    def test_a_query_does_not_hide_a_probe(self):
        self.assertEqual(self.server.get("/health/live?verbose=1").status, 200)

    def test_metrics_speak_prometheus(self):
        answer = self.server.get("/metrics")
        self.assertEqual(answer.status, 200)
        self.assertTrue(answer.headers["content-type"].startswith("text/plain"))
        self.assertIn("# TYPE bitnet_", answer.body.decode())

    def test_figures_move_under_work(self):
        before = self.server.get("/health").json()["metrics"]
        peak = {"active_requests": 0, "tokens_per_second": 0.0, "cpu_usage_percent": 0.0}
        enough, sent = threading.Event(), []

        def active():
            return self.server.get("/health").json()["metrics"]["active_requests"]

        def work():
            while not enough.is_set():
                sent.append(self.server.post("/v1/completions", LONG_REQUEST).status)
                self.server.wait_until(lambda: active() == 0, 10, "a request that was answered is not active")

        # Until every figure has moved: how long a request takes depends on the machine, how soon a figure
        # follows does not.
        worker = threading.Thread(target=work)
        worker.start()

        def moved():
            metrics = self.server.get("/health").json()["metrics"]
            for key in peak:
                peak[key] = max(peak[key], metrics[key])
            return all(value > 0 for value in peak.values())

        try:
            self.server.wait_until(moved, 30, f"every figure moves, the most seen: {peak}")
        finally:
            enough.set()
            worker.join()
        self.assertEqual(set(sent), {200})

        def counted():
            metrics = self.server.get("/health").json()["metrics"]
            return metrics["total_requests"] == before["total_requests"] + len(sent) and metrics["active_requests"] == 0

        self.server.wait_until(counted, 5, "all requests are counted and none is active")
        after = self.server.get("/health").json()["metrics"]
        self.assertEqual(peak["active_requests"], 1)  # one request, whatever its choices
        self.assertGreater(peak["tokens_per_second"], 0)
        self.assertGreater(peak["cpu_usage_percent"], 0)
        self.assertGreater(after["avg_response_time_ms"], 0)
        self.assertGreater(after["memory_usage_mb"], 1)
        # A thousandfold error, as seen elsewhere, would claim terabytes.
        self.assertLess(after["memory_usage_mb"], 100_000)

    def test_uptime_and_timestamp_advance(self):
        first = self.server.get("/health").json()
        self.server.wait_until(
            lambda: self.server.get("/health").json()["uptime_seconds"] > first["uptime_seconds"], 3, "uptime advances")
        self.assertGreater(self.server.get("/health").json()["timestamp"], first["timestamp"])


class Thresholds(unittest.TestCase):
    def statuses(self, *options):
        with Server(NO_GRACE, *options) as server:
            def serves():
                components = server.get("/health").json()["components"]
                return all(components[name]["status"] == "healthy" for name in ("model", "inference_engine"))

            server.wait_until(serves, 30, "model and engine are healthy")
            document = server.get("/health").json()
            codes = {path: server.get(path).status for path in PROBES}
            return document, codes

    def test_degraded_memory_takes_health_and_readiness_down(self):
        document, codes = self.statuses(*ALWAYS_DEGRADED)
        self.assertEqual(document["components"]["memory"]["status"], "degraded")
        self.assertEqual(document["status"], "degraded")
        self.assertEqual(codes, {"/health": 503, "/health/live": 200, "/health/ready": 503})

    def test_degraded_ok_softens_health_but_never_readiness(self):
        document, codes = self.statuses(*ALWAYS_DEGRADED, "--health.degraded-ok=true")
        self.assertEqual(document["status"], "degraded")
        self.assertEqual(codes, {"/health": 200, "/health/live": 200, "/health/ready": 503})

    def test_unhealthy_memory_is_unhealthy_even_when_degraded_is_ok(self):
        document, codes = self.statuses(*ALWAYS_UNHEALTHY, "--health.degraded-ok=true")
        self.assertEqual(document["components"]["memory"]["status"], "unhealthy")
        self.assertEqual(document["status"], "unhealthy")
        self.assertEqual(codes, {"/health": 503, "/health/live": 200, "/health/ready": 503})


class StartUp(unittest.TestCase):
    def test_live_answers_503_for_five_seconds_then_200(self):
        started = time.monotonic()
        with Server() as server:
            seen = []
            while time.monotonic() - started < 8 * SLOWDOWN:
                status = server.get("/health/live").status
                seen.append((time.monotonic() - started, status))
                if status == 200:
                    break
                time.sleep(0.02)
            first_200 = seen[-1][0]
            self.assertEqual(seen[-1][1], 200)
            self.assertTrue(all(status == 503 for _, status in seen[:-1]))
            self.assertGreater(len(seen), 10)
            self.assertGreaterEqual(first_200, 4.9)
            self.assertLess(first_200, 5.0 + 1.5 * SLOWDOWN)


class Drain(unittest.TestCase):
    def test_sigterm_drains_and_exits_with_zero(self):
        with Server(NO_GRACE, *NEVER_DEGRADED, f"--drain.timeout={int(20 * SLOWDOWN)}s") as server:
            server.wait_ready()
            events = server.stream("/v1/completions", LONG_REQUEST)
            pieces = [next(events)]
            probe = server.connect()  # established before: must go on answering
            self.addCleanup(probe.close)
            probe.request("GET", "/health/ready")
            self.assertEqual(self.read(probe)[0], 200)

            server.signal(signal.SIGTERM)
            server.wait_until(lambda: self.ask(probe, "/health/ready") == 503, 2, "ready answers 503")
            self.assertEqual(self.ask(probe, "/health/live"), 200)
            # Probes know it first, so that nobody is refused whom a balancer still sends; what comes in between is served.
            answers = []
            def refused():
                answers.append(server.post("/v1/completions", {"prompt": "x", "max_tokens": 1}))
                return answers[-1].status == 503
            server.wait_until(refused, 2, "new requests are refused")
            self.assertEqual([a.status for a in answers[:-1]], [200] * (len(answers) - 1))
            self.assertIn("error", answers[-1].json())

            pieces.extend(events)
            self.assertEqual(pieces[-1], "[DONE]")
            finish = [json.loads(p)["choices"][0]["finish_reason"] for p in pieces[:-1]]
            self.assertEqual([f for f in finish if f], ["length"] * LONG_REQUEST["n"])
            self.assertEqual(server.process.wait(20 * SLOWDOWN), 0)

    def test_an_idle_server_exits_at_once(self):
        with Server(NO_GRACE) as server:
            server.wait_ready()
            started = time.monotonic()
            server.signal(signal.SIGTERM)
            self.assertEqual(server.process.wait(10 * SLOWDOWN), 0)
            self.assertLess(time.monotonic() - started, 3 * SLOWDOWN)

    @staticmethod
    def read(connection):
        response = connection.getresponse()
        return response.status, response.read()

    def ask(self, connection, path):
        connection.request("GET", path)
        return self.read(connection)[0]


if __name__ == "__main__":
    unittest.main(verbosity=2)
