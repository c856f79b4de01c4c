"""Models that are loaded, swapped and unloaded while a real server serves."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest

from server_process import BINARIES, DEMO_MODEL, SANITIZERS, SLOWDOWN, Server, run_server

OPTIONS = ("--health.startup-grace=0s", "--health.memory-degraded-percent=99", "--health.memory-unhealthy-percent=100")
PROMPTS = ["Once upon a time", "The fox", "What is a liveness probe?", "A server", "In the morning", "Every pod"]


def children(pid: int) -> set[int]:
    found = set()
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found |= {int(child) for child in (task / "children").read_text().split()}
    return found


def make_model(path: pathlib.Path, *options: str):
    subprocess.run([BINARIES / "bitnet-make-synthetic-model", f"--output={path}", *options], check=True)


class Models(unittest.TestCase):
    options = ()

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.allowed = cls.folder / "models"
        cls.allowed.mkdir()
        shutil.copy(DEMO_MODEL, cls.allowed / "first.gguf")
        make_model(cls.allowed / "second.gguf", "--shape=demo", "--seed=7")
        # Takes a moment to load: the engine's build and the canary alone are some tenths of a second.
        make_model(cls.allowed / "big.gguf", "--shape=2b-4t", "--blocks=8", "--vocabulary=4096")

    def start(self, *options, model="first.gguf", environment=None, directories=None):
        server = Server(*OPTIONS, f"--models.directories=[{directories or self.allowed}]", *self.options, *options,
                        model=self.allowed / model, environment=environment).__enter__()
        self.addCleanup(server.stop)
        return server.wait_ready()

    def load(self, server, path, status=200, **more):
        answer = server.post("/v1/models/load", {"path": str(path), **more}, timeout=120)
        self.assertEqual(answer.status, status, answer.body)
        return answer.json()

    def served(self, server):
        return [m["id"] for m in server.get("/v1/models").json()["data"]]

    def complete(self, server, prompt, **more):
        return server.post("/v1/completions", {"prompt": prompt, "max_tokens": 24, "temperature": 0,
                                               "ignore_eos": True, **more}, timeout=60)

    def text(self, server, prompt=PROMPTS[0]):
        answer = self.complete(server, prompt)
        self.assertEqual(answer.status, 200, answer.body)
        return answer.json()["choices"][0]["text"]

    def notes(self, server):
        return [e for e in server.get("/health/events").json()["events"] if e.get("component") == "model"]


class Swap(Models):
    def test_streams_are_neither_lost_nor_altered_while_models_are_swapped_and_health_never_flaps(self):
        server = self.start()
        expected = {"first": {p: self.text(server, p) for p in PROMPTS}}
        self.load(server, "second.gguf")
        expected["second"] = {p: self.text(server, p) for p in PROMPTS}
        self.assertNotEqual(expected["first"], expected["second"])
        done, wrong, seen, unhealthy = threading.Event(), [], {"first": 0, "second": 0}, []

        def stream_on(number):
            while not done.is_set():
                prompt = PROMPTS[number % len(PROMPTS)]
                try:
                    events = [json.loads(e) for e in server.stream("/v1/completions", {
                        "prompt": prompt, "max_tokens": 24, "temperature": 0, "ignore_eos": True})
                        if e != "[DONE]"]
                    text = "".join(e["choices"][0]["text"] for e in events)
                    models = {e["model"] for e in events}
                    if len(models) != 1 or text != expected[min(models)][prompt]:
                        wrong.append((models, prompt, text))
                    seen[min(models)] += 1
                except Exception as problem:  # whatever it is: the stream was lost
                    wrong.append(repr(problem))

        def probe():
            while not done.is_set():
                for path in ("/health/ready", "/health", "/health/live"):
                    answer = server.get(path)
                    # Under ThreadSanitizer the reports of actors come late when others keep the machine busy.
                    if answer.status != 200 and not ("thread" in SANITIZERS and b"no report for" in answer.body):
                        unhealthy.append((path, answer.body))
                time.sleep(0.005)

        workers = [threading.Thread(target=stream_on, args=(i,)) for i in range(6)]
        workers.append(threading.Thread(target=probe))
        for worker in workers:
            worker.start()
        try:
            for name in ("first", "second", "first", "second", "first"):
                before = dict(seen)
                deadline = time.monotonic() + 60 * SLOWDOWN
                while True:  # the old one may have streams to finish
                    answer = server.post("/v1/models/load", {"path": f"{name}.gguf"}, timeout=120)
                    if answer.status != 409 or time.monotonic() > deadline:
                        break
                    time.sleep(0.1)
                self.assertEqual(answer.status, 200, answer.body)
                self.assertEqual(answer.json()["id"], name)
                server.wait_until(lambda: seen[name] >= before[name] + 6, 60, f"streams of {name}")
        finally:
            done.set()
            for worker in workers:
                worker.join(60 * SLOWDOWN)
        self.assertEqual(wrong, [])
        self.assertEqual(unhealthy, [])
        server.wait_until(lambda: len(children(server.process.pid)) == 1, 20, "one loader is left")
        print(f"streams by model: {seen}")

    def test_a_long_stream_finishes_on_the_model_that_began_it(self):
        server = self.start()
        stream = server.stream("/v1/completions", {"prompt": "Once", "max_tokens": 1500, "temperature": 0,
                                                   "ignore_eos": True, "seed": 1})
        events = [json.loads(next(stream))]
        self.load(server, "second.gguf")
        self.assertEqual(self.served(server), ["second"])
        self.assertEqual(self.complete(server, "x", model="first").status, 404)
        self.assertEqual(self.complete(server, "x", model="second").status, 200)
        events += [json.loads(e) for e in stream if e != "[DONE]"]
        self.assertEqual({e["model"] for e in events}, {"first"})
        self.assertEqual(events[-1]["choices"][0]["finish_reason"], "length")
        alone = self.start()
        whole = alone.post("/v1/completions", {"prompt": "Once", "max_tokens": 1500, "temperature": 0,
                                               "ignore_eos": True}, timeout=120).json()
        self.assertEqual("".join(e["choices"][0]["text"] for e in events), whole["choices"][0]["text"])

    def test_a_retiring_engine_that_is_killed_loses_no_stream(self):
        server = self.start()
        before = server.get("/health").json()["processes"]
        whole = server.post("/v1/completions", {"prompt": "Once", "max_tokens": 1200, "temperature": 0,
                                                "ignore_eos": True}, timeout=120).json()["choices"][0]["text"]
        stream = server.stream("/v1/completions", {"prompt": "Once", "max_tokens": 1200, "temperature": 0,
                                                   "ignore_eos": True})
        text = json.loads(next(stream))["choices"][0]["text"]
        self.load(server, "second.gguf")
        with contextlib.suppress(ProcessLookupError):  # a quick machine has finished it
            os.kill(before["engine"], signal.SIGKILL)
        for event in stream:
            if event != "[DONE]":
                text += json.loads(event)["choices"][0]["text"]
        self.assertEqual(text, whole)

    def test_the_file_that_was_replaced_is_taken_up_without_a_restart(self):
        folder = self.folder / "replaced"
        folder.mkdir()
        shutil.copy(self.allowed / "first.gguf", folder / "it.gguf")
        with Server(*OPTIONS, f"--models.directories=[{folder}]", *self.options, model=folder / "it.gguf") as server:
            server.wait_ready()
            first = self.text(server)
            shutil.copy(self.allowed / "second.gguf", folder / "new")
            os.replace(folder / "new", folder / "it.gguf")
            server.wait_until(lambda: server.get("/health/ready").status == 503, 10, "the other file is noticed")
            self.assertEqual(server.get("/health").json()["components"]["model"]["code"], "file_replaced")
            self.load(server, "it.gguf")
            server.wait_until(lambda: server.get("/health/ready").status == 200, 10, "it is well again")
            self.assertNotEqual(self.text(server), first)
            self.assertEqual(self.served(server), ["it"])


class SwapInOneProcess(Models):
    options = ("--engine.isolation=thread",)

    def test_models_are_swapped(self):
        server = self.start()
        first = self.text(server)
        self.load(server, "second.gguf")
        self.assertNotEqual(self.text(server), first)
        self.load(server, self.allowed / "first.gguf")
        self.assertEqual(self.text(server), first)
        self.assertEqual(server.get("/health/ready").status, 200)


class Refusals(Models):
    def test_what_cannot_be_served_is_refused_and_nothing_else_changes(self):
        outside = self.folder / "outside"
        outside.mkdir()
        shutil.copy(DEMO_MODEL, outside / "secret.gguf")
        folder = self.folder / "hostile"
        folder.mkdir()
        whole = DEMO_MODEL.read_bytes()
        (folder / "truncated.gguf").write_bytes(whole[: len(whole) // 2])
        (folder / "empty.gguf").write_bytes(b"")
        (folder / "text.gguf").write_text("this is no model\n" * 100)
        (folder / "header.gguf").write_bytes(whole[:4] + b"\xff" * 64)
        (folder / "flipped.gguf").write_bytes(whole[:24] + bytes(b ^ 0xFF for b in whole[24:200]) + whole[200:])
        (folder / "folder.gguf").mkdir()
        (folder / "escape.gguf").symlink_to(outside / "secret.gguf")
        (folder / "way-out").symlink_to(outside)
        os.mkfifo(folder / "pipe.gguf")
        gone = folder / "gone.gguf"
        gone.write_bytes(whole)
        gone.unlink()
        server = self.start(directories=folder)
        text = self.text(server)
        loader = children(server.process.pid)
        for status, code, paths in (
                (403, "path_not_allowed", ["/etc/passwd", "../outside/secret.gguf", str(outside / "secret.gguf"),
                                           "escape.gguf", "way-out/secret.gguf", "way-out/none.gguf", "..", "/",
                                           "/dev/zero", "/proc/self/mem", str(self.allowed / "second.gguf")]),
                (404, "file_not_found", ["gone.gguf", "none.gguf", "deep/none.gguf"]),
                (422, "file_malformed", ["truncated.gguf", "empty.gguf", "text.gguf", "header.gguf", "flipped.gguf",
                                         "folder.gguf", "pipe.gguf"]),
                (400, "invalid_value", ["", "a\0b", "x" * 5000])):
            for path in paths:
                with self.subTest(path[:40]):
                    error = self.load(server, path, status)["error"]
                    self.assertEqual(error["code"], code, error)
                    self.assertTrue(error["message"])
        for body in ({}, {"path": 3}, {"path": "a", "timeout": -1}, {"path": "a", "timeout": "x"}, []):
            self.assertEqual(server.post("/v1/models/load", body).status, 400)
        self.assertEqual(self.served(server), ["first"])
        self.assertEqual(self.text(server), text)
        self.assertEqual(server.get("/health/ready").status, 200)
        self.assertEqual(children(server.process.pid), loader)
        server.wait_until(lambda: any("truncated.gguf was not loaded" in note["message"] for note in self.notes(server)),
                          5, "the history has it")
        self.assertTrue(any("truncated.gguf was not loaded" in line for line in server.log))

    def test_without_directories_and_in_a_cluster_models_stay_what_they_are(self):
        with Server(*OPTIONS) as server:
            server.wait_ready()
            for answer in (server.post("/v1/models/load", {"path": "a.gguf"}),
                           server.request("DELETE", "/v1/models/demo")):
                self.assertEqual(answer.status, 403)
                self.assertEqual(answer.json()["error"]["code"], "models_fixed")
                self.assertIn("models.directories", answer.json()["error"]["message"])
        ended = run_server(f"--models.directories=[{self.allowed}]", "--cluster.port=1", "--cluster.insecure=true")
        self.assertEqual(ended.returncode, 2)
        self.assertIn("models.directories", ended.stdout + ended.stderr)
        ended = run_server(f"--models.directories=[{self.folder / 'nowhere'}]")
        self.assertEqual(ended.returncode, 1)
        self.assertIn("nowhere", ended.stdout + ended.stderr)

    def test_only_an_admin_changes_models(self):
        keys = {"BITNET_ACCESS_KEYS": "alice:alice-key-0123456789,root:root-key-0123456789abc:admin"}
        server = self.start(environment=keys)
        for key, load, unload in (("alice-key-0123456789", 403, 403), ("root-key-0123456789abc", 200, 200)):
            bearer = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
            answer = server.request("POST", "/v1/models/load", {"path": "second.gguf"}, bearer, timeout=60)
            self.assertEqual(answer.status, load, answer.body)
            self.assertEqual(server.request("DELETE", "/v1/models/second", headers=bearer).status, unload)


class UnderWay(Models):
    def loader_of(self, server, known):
        """The process that has begun to load; stopped, so that the load is under way for as long as the test likes."""
        deadline = time.monotonic() + 20 * SLOWDOWN
        while not (fresh := children(server.process.pid) - known):
            self.assertLess(time.monotonic(), deadline, "no loader was started")
        pid = fresh.pop()
        # Not before it is bitnet-worker: until then the server's thread waits for it, and it would outlive the server.
        while pathlib.Path(f"/proc/{pid}/comm").read_text() != "bitnet-worker\n":
            self.assertLess(time.monotonic(), deadline, "no loader was started")
        os.kill(pid, signal.SIGSTOP)
        return pid

    def begin(self, server):
        known, answers = children(server.process.pid), []
        asking = threading.Thread(daemon=True, target=lambda: answers.append(
            server.post("/v1/models/load", {"path": "big.gguf"}, timeout=120)))
        asking.start()
        return self.loader_of(server, known), asking, answers

    def test_a_killed_loader_fails_the_load_alone(self):
        server = self.start()
        text = self.text(server)
        pid, asking, answers = self.begin(server)
        self.assertEqual(self.load(server, "second.gguf", 409)["error"]["code"], "change_in_progress")
        self.assertEqual(server.request("DELETE", "/v1/models/first").status, 409)
        server.wait_until(lambda: "big.gguf is being loaded" in server.get("/health").json()["components"]["model"]
                          ["message"], 5, "health tells of the load")
        self.assertEqual(server.get("/health").status, 200)
        self.assertEqual(self.text(server), text)
        os.kill(pid, signal.SIGKILL)
        asking.join(30 * SLOWDOWN)
        self.assertEqual(answers[0].status, 500, answers[0].body)
        self.assertEqual(answers[0].headers["x-should-retry"], "false")
        self.assertEqual(self.text(server), text)
        self.assertEqual(server.get("/health/ready").status, 200)
        self.load(server, "second.gguf")

    def test_a_client_that_does_not_wait_finds_the_end_in_the_history(self):
        server = self.start()
        pid, asking, answers = self.begin(server)
        os.kill(pid, signal.SIGCONT)
        asking.join(120 * SLOWDOWN)
        self.assertEqual(answers[0].status, 200, answers[0].body)
        # The old model's engine becomes the server's child for a moment, when its loader has ended.
        server.wait_until(lambda: len(children(server.process.pid)) == 1, 20, "the old model is gone")
        known = children(server.process.pid)
        answers = []
        asking = threading.Thread(daemon=True, target=lambda: answers.append(
            server.post("/v1/models/load", {"path": "big.gguf", "timeout": 0}, timeout=120)))
        asking.start()
        pid = self.loader_of(server, known)
        asking.join(30 * SLOWDOWN)
        self.assertEqual(answers[0].status, 202, answers[0].body)
        self.assertEqual(answers[0].json()["status"], "loading")
        before = len([n for n in self.notes(server) if n["code"] == "model_loaded"])
        os.kill(pid, signal.SIGCONT)
        server.wait_until(lambda: len([n for n in self.notes(server) if n["code"] == "model_loaded"]) > before, 60,
                          "the load has ended")

    def test_a_server_that_is_told_to_end_in_mid_load_does_so(self):
        server = self.start()
        pid, asking, answers = self.begin(server)
        began = time.monotonic()
        self.assertEqual(server.stop(), 0)
        self.assertLess(time.monotonic() - began, 8 * SLOWDOWN)
        asking.join(20 * SLOWDOWN)
        self.assertEqual((answers[0].status, answers[0].json()["error"]["code"]), (503, "draining"))
        self.assertFalse(pathlib.Path(f"/proc/{pid}").exists())


class Unload(Models):
    def test_an_unloaded_model_is_said_to_be_so_until_another_is_loaded(self):
        server = self.start()
        text = self.text(server)
        self.assertEqual(server.request("DELETE", "/v1/models/other").status, 404)
        stream = server.stream("/v1/completions", {"prompt": "Once", "max_tokens": 600, "temperature": 0,
                                                   "ignore_eos": True})
        next(stream)
        answer = server.request("DELETE", "/v1/models/first")
        self.assertEqual(answer.json(), {"id": "first", "object": "model", "deleted": True})
        refused = self.complete(server, "x")
        self.assertEqual((refused.status, refused.json()["error"]["code"]), (503, "no_model"))
        self.assertEqual(self.served(server), [])
        self.assertEqual(list(stream)[-1], "[DONE]")
        self.assertEqual(server.get("/health/ready").status, 503)
        self.assertEqual(server.get("/health/live").status, 200)
        component = server.get("/health").json()["components"]["model"]
        self.assertEqual(component["code"], "no_model")
        self.assertIn("first was unloaded on request", component["message"])
        server.wait_until(lambda: not children(server.process.pid), 20, "its processes are gone")
        self.load(server, "first.gguf")
        server.wait_until(lambda: server.get("/health/ready").status == 200, 10, "ready again")
        self.assertEqual(self.text(server), text)


if __name__ == "__main__":
    unittest.main()
