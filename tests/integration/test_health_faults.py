"""Faults of the server's own process, injected: what the endpoints say, and what the history remembers."""

import signal
import time
import unittest

from server_process import SANITIZERS, SLOWDOWN, Server

OPTIONS = ("--health.startup-grace=0s", "--health.memory-degraded-percent=99", "--health.memory-unhealthy-percent=100",
           "--debug.fault-injection=true")
PROBES = ("/health/live", "/health/ready", "/health")


class HealthFaults(unittest.TestCase):
    def setUp(self):
        self.server = Server(*OPTIONS).__enter__().wait_ready()
        self.addCleanup(self.server.stop)

    def inject(self, fault, **parameters):
        answer = self.server.post("/debug/faults", {"fault": fault, **parameters})
        self.assertEqual(answer.status, 200, answer.body)

    def statuses(self):
        return [self.server.get(path).status for path in PROBES]

    def event_codes(self):
        # A stale snapshot answers for every path that it is stale, without events.
        return [event["code"] for event in self.server.get("/health/events").json().get("events", [])]

    def test_components_carry_codes_and_the_history_tells_how_they_came_to_be(self):
        health = self.server.get("/health").json()
        self.assertEqual({c["code"] for c in health["components"].values()}, {"ok"})
        self.assertNotIn("events", health)
        answer = self.server.get("/health/events")
        self.assertEqual(answer.headers["cache-control"], "no-store")
        events = answer.json()["events"]
        self.assertEqual([e["sequence"] for e in events], list(range(1, len(events) + 1)))
        engine = [e for e in events if e["component"] == "inference_engine"]
        self.assertEqual(engine[0]["code"], "starting")
        self.assertEqual((engine[-1]["from"], engine[-1]["status"], engine[-1]["code"]), ("unhealthy", "healthy", "ok"))
        self.assertEqual(self.server.get("/health?history=1").json()["events"], events)
        head = self.server.request("HEAD", "/health/events")
        self.assertEqual((head.status, head.body), (200, b""))
        self.assertEqual(self.server.request("POST", "/health/events", "{}").status, 405)
        self.assertIn("health: inference_engine unhealthy -> healthy (ok)", "\n".join(self.server.log))

    def test_a_hung_aggregator_fails_every_probe_within_three_seconds_without_blocking_one(self):
        self.inject("aggregator-stall", seconds=4 * SLOWDOWN)
        began = time.monotonic()
        self.server.wait_until(lambda: self.statuses() == [503, 503, 503], 3, "every probe answers 503")
        slowest = 0
        while time.monotonic() - began < 3:
            at = time.monotonic()
            self.assertIn("aggregator stuck", self.server.get("/health/ready").json()["reason"])
            slowest = max(slowest, time.monotonic() - at)
        self.assertLess(slowest, 0.5 * SLOWDOWN)
        self.server.wait_until(lambda: self.statuses() == [200, 200, 200], 6, "it is well again")

    def test_an_aggregator_that_ends_is_started_again(self):
        self.inject("aggregator-crash")
        self.server.wait_until(lambda: "aggregator_restarted" in self.event_codes(), 3, "the restart is in the history")
        self.assertEqual(self.statuses(), [200, 200, 200])

    @unittest.skipIf("undefined" in SANITIZERS,
                     "UndefinedBehaviorSanitizer looks at virtual calls through a pipe, and takes them for wrong without one")
    def test_exhausted_descriptors_take_readiness_and_leave_the_probes_answering(self):
        self.inject("file-exhaustion", seconds=4 * SLOWDOWN)
        self.server.wait_until(lambda: self.statuses() == [200, 503, 503], 3, "readiness answers 503")
        components = self.server.get("/health").json()["components"]
        self.assertEqual(components["process"]["code"], "files_exhausted")
        self.assertEqual(components["memory"]["code"], "ok")
        self.server.wait_until(lambda: self.statuses() == [200, 200, 200], 8, "it is well again")

    def test_a_stop_of_the_process_is_remembered_and_no_fault(self):
        self.server.signal(signal.SIGSTOP)
        time.sleep(4)
        self.server.signal(signal.SIGCONT)
        self.server.wait_until(lambda: "suspended" in self.event_codes(), 3, "the stop is in the history")
        self.server.wait_until(lambda: self.statuses() == [200, 200, 200], 1, "it is well")

    def test_a_jump_of_the_clock_is_a_note_and_no_fault(self):
        self.inject("clock-jump", seconds=-3600)
        self.server.wait_until(lambda: "clock_jump" in self.event_codes(), 3, "the jump is in the history")
        self.assertEqual(self.statuses(), [200, 200, 200])
        self.assertIn('bitnet_health_events_total{code="clock_jump"} 1', self.server.get("/metrics").body.decode())


if __name__ == "__main__":
    unittest.main()
