"""Generation over HTTP: plain and streamed, the same text whatever the threads and kernels."""

import json
import pathlib
import time
import unittest

from server_process import Server

NO_GRACE = "--health.startup-grace=0s"
PROMPT = "Once upon a time"
PINNED_ANSWERS = (
    ("What is a liveness probe?",
     "A liveness probe asks if a service is still alive. If it fails, the service is restarted."),
    ("Hello!", "Hello! How can I help you?"),
    ("What is the capital of France?", "The capital of France is Paris."),
)


def text_of(answer):
    return answer.json()["choices"][0]["text"]


def greedy(server, **more):
    answer = server.post("/v1/completions", {"prompt": PROMPT, "max_tokens": 48, "temperature": 0, **more})
    assert answer.status == 200, answer.body
    return text_of(answer)


def supported_kernels():
    flags = pathlib.Path("/proc/cpuinfo").read_text().split()
    names = {"scalar": [], "avx2": ["avx2", "fma", "f16c"], "avx_vnni": ["avx_vnni"],
             "avx512_vnni": ["avx512_vnni", "avx512bw"], "amx_int8": ["amx_int8"]}
    return [name for name, needs in names.items() if all(flag in flags for flag in needs)]


class Completions(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(NO_GRACE, "--health.memory-degraded-percent=99",
                            "--health.memory-unhealthy-percent=100").__enter__().wait_ready()

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def test_a_completion_has_the_shape_that_clients_read(self):
        document = self.server.post(
            "/v1/completions", {"prompt": PROMPT, "max_tokens": 8, "temperature": 0}).json()
        self.assertTrue(document["id"].startswith("cmpl-"))
        self.assertEqual(document["object"], "text_completion")
        self.assertEqual(document["model"], "demo")
        self.assertLess(abs(document["created"] - time.time()), 60)
        [choice] = document["choices"]
        self.assertEqual(choice["index"], 0)
        self.assertEqual(choice["finish_reason"], "length")
        self.assertIsNone(choice["logprobs"])
        self.assertGreater(len(choice["text"]), 5)
        usage = document["usage"]
        self.assertEqual(usage["completion_tokens"], 8)
        self.assertEqual(usage["total_tokens"], usage["prompt_tokens"] + 8)

    def test_a_chat_answers_as_the_assistant(self):
        document = self.server.post("/v1/chat/completions", {
            "messages": [{"role": "user", "content": "What is a liveness probe?"}],
            "max_tokens": 60, "temperature": 0}).json()
        self.assertTrue(document["id"].startswith("chatcmpl-"))
        self.assertEqual(document["object"], "chat.completion")
        [choice] = document["choices"]
        self.assertEqual(choice["message"]["role"], "assistant")
        self.assertGreater(len(choice["message"]["content"]), 10)
        self.assertIn(choice["finish_reason"], ("stop", "length"))

    def test_a_stream_carries_the_same_text(self):
        pieces, reasons = [], []
        events = list(self.server.stream("/v1/completions", {"prompt": PROMPT, "max_tokens": 48, "temperature": 0}))
        self.assertEqual(events[-1], "[DONE]")
        for event in events[:-1]:
            [choice] = json.loads(event)["choices"]
            pieces.append(choice["text"])
            reasons.append(choice["finish_reason"])
        self.assertEqual("".join(pieces), greedy(self.server))
        self.assertGreater(len([p for p in pieces if p]), 5)
        self.assertEqual(set(reasons[:-1]), {None})
        self.assertIn(reasons[-1], ("length", "stop"))

    def test_a_chat_stream_begins_with_the_role_and_ends_with_usage(self):
        request = {"messages": [{"role": "user", "content": "Tell me a story about a fox."}], "max_tokens": 30,
                   "temperature": 0}
        events = list(self.server.stream("/v1/chat/completions", {**request, "stream_options": {"include_usage": True}}))
        self.assertEqual(events[-1], "[DONE]")
        chunks = [json.loads(e) for e in events[:-1]]
        self.assertEqual(chunks[0]["choices"][0]["delta"]["role"], "assistant")
        self.assertEqual(len({c["id"] for c in chunks}), 1)
        self.assertEqual({c["object"] for c in chunks}, {"chat.completion.chunk"})
        self.assertEqual(chunks[-1]["choices"], [])
        self.assertGreater(chunks[-1]["usage"]["completion_tokens"], 0)
        text = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"])
        plain = self.server.post("/v1/chat/completions", request).json()
        self.assertEqual(text, plain["choices"][0]["message"]["content"])
        self.assertEqual(chunks[-1]["usage"]["completion_tokens"], plain["usage"]["completion_tokens"])

    def test_a_screened_head_is_announced_and_keeps_the_most_likely_tokens(self):
        self.assertEqual(self.server.get("/health").json()["engine"]["lm_head"], "int8")
        with Server(NO_GRACE, "--engine.lm-head=screened") as screened:
            screened.wait_ready()
            self.assertEqual(screened.get("/health").json()["engine"]["lm_head"], "screened")
            # The demo's vocabulary is twice as large as the candidates are many.
            self.assertEqual(greedy(screened), greedy(self.server))

    def test_a_seed_fixes_a_random_completion(self):
        def sample(seed):
            return text_of(self.server.post("/v1/completions", {
                "prompt": PROMPT, "max_tokens": 40, "temperature": 1.0, "seed": seed}))

        self.assertEqual(sample(7), sample(7))
        self.assertGreater(len({sample(seed) for seed in range(1, 6)}), 1)

    def test_a_stop_string_ends_the_text_before_itself(self):
        whole = greedy(self.server)
        stop = whole[len(whole) // 2: len(whole) // 2 + 3]
        answer = self.server.post(
            "/v1/completions", {"prompt": PROMPT, "max_tokens": 48, "temperature": 0, "stop": [stop]}).json()
        self.assertEqual(answer["choices"][0]["text"], whole[: whole.index(stop)])
        self.assertEqual(answer["choices"][0]["finish_reason"], "stop")

    def test_several_choices_are_several_samples(self):
        answer = self.server.post("/v1/completions", {
            "prompt": PROMPT, "max_tokens": 30, "n": 3, "seed": 5, "temperature": 1.0}).json()
        self.assertEqual([c["index"] for c in answer["choices"]], [0, 1, 2])
        self.assertGreater(len({c["text"] for c in answer["choices"]}), 1)

    def test_logprobs_are_given_where_asked_for(self):
        answer = self.server.post("/v1/completions", {
            "prompt": PROMPT, "max_tokens": 5, "temperature": 0, "logprobs": 3}).json()
        logprobs = answer["choices"][0]["logprobs"]
        self.assertEqual(len(logprobs["tokens"]), 5)
        self.assertEqual("".join(logprobs["tokens"]), answer["choices"][0]["text"])
        for value, top in zip(logprobs["token_logprobs"], logprobs["top_logprobs"]):
            self.assertLessEqual(value, 0)
            self.assertAlmostEqual(value, max(top.values()), places=5)

    def test_bad_requests_get_an_error_object(self):
        for path, body, param in (
            ("/v1/completions", "{", None),
            ("/v1/completions", "[]", None),
            ("/v1/completions", {}, "prompt"),
            ("/v1/completions", {"prompt": "x", "temperature": 9}, "temperature"),
            ("/v1/completions", {"prompt": "x", "max_tokens": -1}, "max_tokens"),
            ("/v1/completions", {"prompt": 5}, "prompt"),
            ("/v1/chat/completions", {"messages": []}, "messages"),
            ("/v1/chat/completions", {"messages": [{"role": "alien", "content": "x"}]}, "messages"),
            ("/v1/completions", {"prompt": "word " * 20_000}, None),
        ):
            with self.subTest(path=path, body=str(body)[:60]):
                answer = self.server.post(path, body)
                self.assertEqual(answer.status, 400, answer.body)
                error = answer.json()["error"]
                self.assertEqual(error["type"], "invalid_request_error")
                self.assertTrue(error["message"])
                if param:
                    self.assertTrue((error["param"] or "").startswith(param), error)

    def test_an_unknown_model_or_path_is_not_found(self):
        self.assertEqual(self.server.post("/v1/completions", {"model": "other", "prompt": "x"}).status, 404)
        self.assertEqual(self.server.get("/v1/models/other").status, 404)
        self.assertEqual(self.server.get("/nothing").status, 404)
        self.assertEqual(self.server.request("DELETE", "/v1/completions").status, 405)

    def test_models_lists_the_one_that_is_served(self):
        listing = self.server.get("/v1/models").json()
        self.assertEqual(listing["object"], "list")
        [model] = listing["data"]
        self.assertEqual(model["id"], "demo")
        self.assertEqual(self.server.get("/v1/models/demo").json(), model)

    def test_tokenize_and_detokenize_are_inverse(self):
        tokens = self.server.post("/tokenize", {"content": "Hello, wörld! 你好"}).json()["tokens"]
        self.assertEqual(self.server.post("/detokenize", {"tokens": tokens}).json()["content"], "Hello, wörld! 你好")

    def test_the_demo_model_answers_as_it_always_did(self):
        # Pinned: these change only when models/demo.gguf does.
        for question, answer in PINNED_ANSWERS:
            document = self.server.post("/v1/chat/completions", {
                "messages": [{"role": "user", "content": question}], "max_tokens": 60, "temperature": 0}).json()
            self.assertEqual(document["choices"][0]["message"]["content"], answer)
            self.assertEqual(document["choices"][0]["finish_reason"], "stop")

    def test_the_api_describes_itself(self):
        document = self.server.get("/openapi.json").json()
        self.assertTrue(document["openapi"].startswith("3."))
        for path in ("/health", "/health/live", "/health/ready", "/v1/completions", "/v1/chat/completions"):
            self.assertIn(path, document["paths"])

    def test_a_request_id_is_echoed(self):
        answer = self.server.request("POST", "/v1/completions", {"prompt": "x", "max_tokens": 1},
                                     {"x-request-id": "abc-123"})
        self.assertEqual(answer.headers["x-request-id"], "abc-123")

    def test_a_client_that_leaves_ends_its_request(self):
        connection = self.server.connect()
        connection.request("POST", "/v1/completions",
                           json.dumps({"prompt": PROMPT, "max_tokens": 800, "n": 8, "stream": True, "ignore_eos": True}))
        response = connection.getresponse()
        response.readline()

        def active():
            return self.server.get("/health").json()["metrics"]["active_requests"]

        self.server.wait_until(lambda: active() == 1, 5, "the request is active")
        connection.sock.close() if connection.sock else None
        response.close()
        connection.close()
        self.server.wait_until(lambda: active() == 0, 5, "the request has ended")


class Determinism(unittest.TestCase):
    def test_threads_and_kernels_do_not_change_a_greedy_text(self):
        texts = {}
        for kernels in supported_kernels():
            for threads in (1, 2):
                with Server(NO_GRACE, f"--engine.threads={threads}", f"--engine.kernels={kernels}",
                            "--health.memory-degraded-percent=99",
                            "--health.memory-unhealthy-percent=100") as server:
                    server.wait_ready()
                    texts[kernels, threads] = greedy(server)
        self.assertEqual(len(set(texts.values())), 1, texts)


if __name__ == "__main__":
    unittest.main(verbosity=2)
