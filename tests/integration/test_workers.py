"""Engines in processes of their own: whatever happens to one, the server tells it, replaces it and goes on."""

import json
import os
import pathlib
import signal
import threading
import time
import unittest

from server_process import BINARIES, SANITIZERS, SLOWDOWN, Server, run_server

OPTIONS = (
    "--health.startup-grace=0s",
    "--health.memory-degraded-percent=99",
    "--health.memory-unhealthy-percent=100",
    "--debug.fault-injection=true",
)
REQUEST = {"prompt": "Once upon a time", "max_tokens": 40, "temperature": 0}


def process_state(pid: int) -> str | None:
    """The letter of /proc/PID/stat, or nothing."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None


def is_gone(pid: int) -> bool:
    return process_state(pid) is None


def children(pid: int) -> list[int]:
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid:
            found.append(int(entry.name))
    return found


def descriptors(pid: int) -> dict[str, str]:
    found = {}
    for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            found[entry.name] = os.readlink(entry)
        except FileNotFoundError:
            pass
    return found


def listening_sockets() -> set[str]:
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        if not os.path.exists(table):
            continue
        for line in pathlib.Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                inodes.add(f"socket:[{fields[9]}]")
    return inodes


class WithServer(unittest.TestCase):
    options = ()

    def setUp(self):
        self.server = Server(*OPTIONS, *self.options).__enter__()
        self.addCleanup(self.server.stop)
        self.server.wait_ready()

    def health(self):
        return self.server.get("/health").json()

    def processes(self):
        return self.health()["processes"]

    def metrics(self):
        return self.server.get("/metrics").body.decode()

    def text(self):
        answer = self.server.post("/v1/completions", REQUEST)
        self.assertEqual(answer.status, 200, answer.body)
        return answer.json()["choices"][0]["text"]

    def cause(self, fault, **parameters):
        answer = self.server.post("/debug/faults", {"fault": fault, **parameters})
        self.assertEqual(answer.status, 200, answer.body)

    def watch(self, component, until, seconds):
        """Polls /health until `until(document)`; the (time, status, message) of `component` as they changed."""
        started = time.monotonic()
        seen = []

        def look():
            answer = self.server.get("/health")
            document = answer.json()
            entry = (answer.status, document["components"][component]["message"])
            if not seen or seen[-1][1:] != entry:
                seen.append((time.monotonic() - started, *entry))
            return until(document)

        self.server.wait_until(look, seconds, f"recovery; seen: {seen}")
        return seen

    def replaced(self, before, which="engine"):
        def check(document):
            now = document["processes"]
            return document["status"] == "healthy" and now[which] not in (0, before[which])

        return check

    def assert_told(self, seen, words, within):
        told = [t for t, status, message in seen if status == 503 and words in message]
        self.assertTrue(told, f"{words!r} not in {seen}")
        self.assertLess(told[0], within * SLOWDOWN, seen)


class EndOfAProcess(WithServer):
    def test_the_engine_runs_in_a_grandchild_that_has_no_listening_socket(self):
        processes = self.processes()
        self.assertEqual(processes["server"], self.server.process.pid)
        self.assertEqual(children(processes["server"]), [processes["loader"]])
        self.assertEqual(children(processes["loader"]), [processes["engine"]])
        listening = listening_sockets()
        self.assertTrue(listening & set(descriptors(processes["server"]).values()))
        for which in ("loader", "engine"):
            self.assertFalse(listening & set(descriptors(processes[which]).values()), which)
        # Else a fork would lose the other threads in the middle of what they do. ThreadSanitizer has one of its own.
        allowed = 2 if "thread" in SANITIZERS else 1
        self.assertLessEqual(len(os.listdir(f"/proc/{processes['loader']}/task")), allowed)

    def test_a_killed_or_crashed_engine_is_told_and_replaced(self):
        text = self.text()
        for number, name in ((signal.SIGKILL, "SIGKILL"), (signal.SIGSEGV, "SIGSEGV"), (signal.SIGABRT, "SIGABRT")):
            with self.subTest(name):
                before = self.processes()
                os.kill(before["engine"], number)
                self.watch("inference_engine", self.replaced(before), 5)
                self.server.wait_until(
                    lambda: any(f"(SIG{number.name[3:]})" in line for line in self.server.log), 5, f"the log tells of {name}")
                self.assertTrue(is_gone(before["engine"]))
                self.assertEqual(self.processes()["loader"], before["loader"])
                self.assertEqual(self.text(), text)
        self.assertEqual(self.server.get("/health/live").status, 200)

    def test_a_stopped_engine_is_found_while_idle_and_replaced(self):
        before = self.processes()
        os.kill(before["engine"], signal.SIGSTOP)
        self.watch("inference_engine", self.replaced(before), 6)
        # The next one may be there before a probe comes: the history tells.
        events = self.server.get("/health/events").json()["events"]
        self.assertTrue(any("no sign of life" in e["message"] and e["status"] == "unhealthy" for e in events), events)
        self.assertTrue(is_gone(before["engine"]))
        self.text()

    def test_an_engine_stopped_in_the_middle_of_its_work_is_replaced(self):
        # Whether the stream goes on is for others to check: here it must not hold up the recovery.
        busy = threading.Thread(target=lambda: self.server.post(
            "/v1/completions", {"prompt": "Once", "max_tokens": 900, "n": 8, "ignore_eos": True}), daemon=True)
        busy.start()
        self.server.wait_until(lambda: self.health()["metrics"]["active_requests"] > 0 or not busy.is_alive(), 5, "work")
        before = self.processes()
        os.kill(before["engine"], signal.SIGSTOP)
        self.watch("inference_engine", self.replaced(before), 6)
        busy.join(20 * SLOWDOWN)
        self.assertFalse(busy.is_alive())
        self.text()

    def test_a_killed_loader_takes_its_engine_along_and_the_model_is_loaded_again(self):
        text = self.text()
        before = self.processes()
        os.kill(before["loader"], signal.SIGKILL)
        self.watch("model", self.replaced(before, "loader"), 10)
        self.assertTrue(any("holds the weights" in line and "SIGKILL" in line for line in self.server.log))
        for which in ("loader", "engine"):
            self.assertTrue(is_gone(before[which]), which)
        self.assertEqual(self.text(), text)

    def test_fifty_respawns_leave_no_zombie_and_no_descriptor_behind(self):
        for i in range(51):
            before = self.processes()
            os.kill(before["engine"], signal.SIGKILL)
            self.watch("inference_engine", self.replaced(before), 10)
            if i == 0:
                self.text()
                first = (len(descriptors(before["server"])), len(descriptors(before["loader"])))
        processes = self.processes()
        self.assertEqual(processes["worker_restarts"], 51)
        self.assertEqual(children(processes["server"]), [processes["loader"]])
        self.assertEqual(children(processes["loader"]), [processes["engine"]])

        def settled():
            now = (len(descriptors(processes["server"])), len(descriptors(processes["loader"])))
            return now[0] <= first[0] + 1 and now[1] <= first[1]

        self.server.wait_until(settled, 5, f"descriptors: {first} at first")
        self.text()

    def test_nothing_outlives_a_server_that_was_killed(self):
        for stop_first in (None, "engine", "loader"):
            with self.subTest(stopped=stop_first), Server(*OPTIONS) as server:
                server.wait_ready()
                processes = server.get("/health").json()["processes"]
                if stop_first:
                    os.kill(processes[stop_first], signal.SIGSTOP)
                server.signal(signal.SIGKILL)
                server.process.wait()
                server.wait_until(lambda: is_gone_or_zombie(processes["loader"]), 5, "the loader ends")
                server.wait_until(lambda: is_gone_or_zombie(processes["engine"]), 5, "the engine ends")

    def test_signals_to_the_whole_group_drain_the_server_before_its_engine_ends(self):
        processes = self.processes()
        for which in ("engine", "loader", "server"):
            os.kill(processes[which], signal.SIGTERM)
        self.assertEqual(self.server.process.wait(20 * SLOWDOWN), 0)
        self.assertTrue(is_gone(processes["loader"]))
        self.assertFalse(any("killed by signal" in line for line in self.server.log))


class KillsInMidStream(WithServer):
    BODY = {"prompt": "Once upon a time", "max_tokens": 400, "temperature": 0.8, "ignore_eos": True}

    def read(self, seed, out):
        text, last, gap = "", time.monotonic(), 0.0
        for data in self.server.stream("/v1/completions", {**self.BODY, "seed": seed}):
            gap, last = max(gap, time.monotonic() - last), time.monotonic()
            if data == "[DONE]":
                out[seed] = (text, gap)
                return
            event = json.loads(data)
            self.assertNotIn("error", event)
            self.moved[seed] = time.monotonic()
            text += "".join(c["text"] for c in event["choices"])

    def streams(self, while_they_run=lambda threads: None):
        results: dict[int, tuple[str, float]] = {}
        self.moved = {}  # when each stream got something last
        # Whoever fails leaves no result behind.
        threads = [threading.Thread(target=self.read, args=(seed, results), daemon=True) for seed in range(4)]
        for t in threads:
            t.start()
        while_they_run(threads)
        for t in threads:
            t.join(60 * SLOWDOWN)
        self.assertEqual(sorted(results), list(range(4)))
        return results

    def kill_while_streaming(self, number, kills):
        undisturbed = self.streams()
        done = 0
        while done < kills:
            def disturb(threads):
                nonlocal done
                killed = time.monotonic()
                while done < kills and any(t.is_alive() for t in threads):
                    # A stream that met two deaths without a token between them would be taken for their cause.
                    if any(t.is_alive() and self.moved.get(seed, 0) < killed for seed, t in enumerate(threads)):
                        time.sleep(0.001)
                        continue
                    before = self.processes()
                    killed = time.monotonic()
                    os.kill(before["engine"], number)
                    done += 1
                    self.watch("inference_engine", self.replaced(before), 10)
                    self.server.wait_until(lambda: "bitnet_streams_waiting 0" in self.metrics(), 10, "all go on")
                    killed = time.monotonic()

            for seed, (text, gap) in self.streams(disturb).items():
                self.assertEqual(text, undisturbed[seed][0])
                self.assertLess(gap, 10 * SLOWDOWN)
        self.assertEqual(self.processes()["worker_restarts"], kills)
        self.assertIn("bitnet_streams_abandoned_total 0", self.metrics())
        self.assertIn("bitnet_requests_quarantined_total 0", self.metrics())

    def test_killed_engines_leave_no_trace_in_the_text_of_streams(self):
        self.kill_while_streaming(signal.SIGKILL, 10)

    def test_stopped_engines_leave_no_trace_in_the_text_of_streams(self):
        self.kill_while_streaming(signal.SIGSTOP, 2)


class LoaderThatStopped(WithServer):
    def test_it_is_replaced_while_its_engine_serves(self):
        text = self.text()
        before = self.processes()
        os.kill(before["loader"], signal.SIGSTOP)
        self.assertEqual(self.text(), text)
        self.watch("model", self.replaced(before, "loader"), 25)
        self.assertTrue(any("no sign of life" in line for line in self.server.log))
        self.assertTrue(is_gone(before["loader"]))
        self.assertEqual(self.text(), text)

    def test_an_engine_lost_meanwhile_comes_back_with_it(self):
        text = self.text()
        before = self.processes()
        os.kill(before["loader"], signal.SIGSTOP)
        os.kill(before["engine"], signal.SIGKILL)
        self.server.wait_until(lambda: self.server.get("/health/ready").status == 503, 3, "it is told")
        self.watch("model", self.replaced(before, "loader"), 30)
        self.assertEqual(self.text(), text)
        self.assertEqual(self.server.get("/health/live").status, 200)


def is_gone_or_zombie(pid: int) -> bool:
    # Its new parent is none of ours, and reaps it when it likes.
    return process_state(pid) in (None, "Z", "X")


class Faults(WithServer):
    def test_every_fault_is_listed_with_its_parameters(self):
        faults = {f["fault"]: f["help"] for f in self.server.get("/debug/faults").json()["faults"]}
        self.assertLessEqual({"hang", "crash", "livelock", "nan", "bit-flip", "slow-step", "kv-leak",
                              "loader-bit-flip"}, faults.keys())
        for bad in ({"fault": "meltdown"}, {"fault": "hang", "seconds": -1}, {"fault": "crash", "how": "x"}, {}, []):
            self.assertEqual(self.server.post("/debug/faults", bad).status, 400, bad)
        self.assertEqual(self.health()["status"], "healthy")

    def test_a_hang_is_told_and_the_engine_replaced(self):
        before = self.processes()
        self.cause("hang")
        failed = threading.Thread(target=lambda: self.server.post("/v1/completions", REQUEST), daemon=True)
        failed.start()
        seen = self.watch("inference_engine", self.replaced(before), 7)
        self.assert_told(seen, "hung", 4)
        failed.join(20 * SLOWDOWN)
        self.text()

    def test_a_crash_is_told_and_the_engine_replaced(self):
        before = self.processes()
        self.cause("crash", how="segv")
        self.watch("inference_engine", self.replaced(before), 5)
        self.server.wait_until(lambda: any("(SIGSEGV)" in line for line in self.server.log), 5, "the log tells how")

    def test_logits_that_are_no_numbers_once_cost_no_request(self):
        text = self.text()
        self.cause("nan", steps=1)
        self.assertEqual(self.text(), text)
        self.assertTrue(any("not numbers" in line for line in self.server.log))

    def test_logits_that_stay_no_numbers_cost_the_engine_its_life_and_no_request(self):
        text = self.text()
        before = self.processes()
        self.cause("nan", steps=0)
        self.assertEqual(self.text(), text)
        self.watch("inference_engine", self.replaced(before), 5)
        self.assertEqual(self.processes()["loader"], before["loader"])

    def test_a_flipped_bit_is_found_and_cured_by_another_engine(self):
        text = self.text()
        before = self.processes()
        self.cause("bit-flip", offset=100)
        seen = self.watch("inference_engine", self.replaced(before), 25)
        self.assertTrue(any("changed in memory" in line or "wrong results" in line for line in self.server.log), seen)
        self.assertEqual(self.processes()["loader"], before["loader"])
        self.assertEqual(self.text(), text)

    def test_a_bit_flipped_at_the_source_is_found_and_cured_by_loading_again(self):
        text = self.text()
        before = self.processes()
        self.cause("loader-bit-flip", offset=100)
        os.kill(before["engine"], signal.SIGKILL)
        self.watch("model", self.replaced(before, "loader"), 40)
        self.assertEqual(self.text(), text)
        self.assertEqual(self.server.get("/health/live").status, 200)

    def test_slow_steps_are_no_hang(self):
        before = self.processes()
        self.cause("slow-step", factor=500, seconds=4)
        self.text()
        self.assertEqual(self.processes()["engine"], before["engine"])

    def test_lost_kv_blocks_are_told_as_a_deadlock_and_cured(self):
        before = self.processes()
        self.cause("kv-leak")
        threading.Thread(target=lambda: self.server.post("/v1/completions", REQUEST, timeout=60), daemon=True).start()
        self.watch("inference_engine", self.replaced(before), 20)
        self.assertTrue(any("deadlock" in line for line in self.server.log))
        self.text()


class Configuration(unittest.TestCase):
    def test_without_the_option_no_fault_can_be_caused(self):
        with Server("--health.startup-grace=0s") as server:
            server.wait_ready()
            self.assertEqual(server.get("/debug/faults").status, 404)
            self.assertEqual(server.post("/debug/faults", {"fault": "crash"}).status, 404)

    def test_a_server_that_watches_nothing_serves_but_never_says_that_it_is_ready(self):
        with Server(*OPTIONS, "--debug.unwatched=true") as server:
            server.wait_until(lambda: "bitnet_workers 1" in server.get("/metrics").body.decode(), 30, "a worker")
            self.assertEqual(server.post("/v1/completions", REQUEST).status, 200)
            self.assertEqual(server.get("/health/ready").status, 503)
            self.assertEqual(server.get("/health/live").status, 200)
            engine = server.get("/health").json()["components"]["inference_engine"]
            self.assertEqual((engine["status"], engine["code"]), ("degraded", "unwatched"))

    def test_a_missing_worker_binary_is_one_clear_line(self):
        ended = run_server("--engine.worker-binary=/nonexistent/bitnet-worker")
        self.assertEqual(ended.returncode, 1)
        self.assertIn("engine.worker-binary", ended.stdout + ended.stderr)
        self.assertIn("/nonexistent/bitnet-worker", ended.stdout + ended.stderr)

    def test_a_program_that_is_no_worker_is_an_error_and_no_hang(self):
        ended = run_server("--engine.worker-binary=/bin/true")
        self.assertEqual(ended.returncode, 1)

    def test_the_worker_started_by_hand_says_what_it_is(self):
        import subprocess
        ended = subprocess.run([str(BINARIES / "bitnet-worker")], capture_output=True, text=True, timeout=10)
        self.assertEqual(ended.returncode, 1)
        self.assertIn("bitnet-server", ended.stderr)

    def test_in_a_thread_the_engine_has_no_process_and_serves_the_same(self):
        texts = []
        for isolation in ("thread", "process"):
            with Server(*OPTIONS, f"--engine.isolation={isolation}") as server:
                server.wait_ready()
                texts.append(server.post("/v1/completions", REQUEST).json()["choices"][0]["text"])
                processes = server.get("/health").json()["processes"]
                self.assertEqual(processes["engine"] == 0, isolation == "thread")
                crash = server.post("/debug/faults", {"fault": "crash"})
                self.assertEqual(crash.status, 400 if isolation == "thread" else 200)
        self.assertEqual(texts[0], texts[1])


if __name__ == "__main__":
    unittest.main(verbosity=2)
