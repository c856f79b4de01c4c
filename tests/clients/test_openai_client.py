"""The official OpenAI client against a real server: what it is told, what it makes of errors."""

import concurrent.futures
import http.client
import json
import pathlib
import shutil
import tempfile
import time
import unittest

import openai
from server_process import DEMO_MODEL, Server

def client_of(server, **options):
    """A client, once the model is there."""
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="any", **options)
    deadline = time.monotonic() + 30
    while not client.models.list().data:
        if time.monotonic() > deadline:
            raise AssertionError("the model was not loaded in time")
        time.sleep(0.05)
    return client


QUESTION = [{"role": "user", "content": "What is a liveness probe?"}]


class OpenAIClient(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = cls.enterClassContext(Server())
        cls.client = client_of(cls.server, max_retries=4)

    def complete(self, **parameters):
        return self.client.completions.create(**{"model": "demo", "prompt": "Once upon a time", "max_tokens": 12,
                                                 "temperature": 0, **parameters})

    def chat(self, **parameters):
        return self.client.chat.completions.create(**{"model": "demo", "messages": QUESTION, "max_tokens": 16,
                                                      "temperature": 0, **parameters})

    def test_models_are_listed_and_retrieved(self):
        listed = self.client.models.list().data
        self.assertEqual([m.id for m in listed], ["demo"])
        self.assertEqual(self.client.models.retrieve("demo").id, "demo")
        with self.assertRaises(openai.NotFoundError):
            self.client.models.retrieve("other")

    def test_the_list_of_models_follows_loads_and_deletions(self):
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(DEMO_MODEL, pathlib.Path(folder) / "other.gguf")
            with Server(f"--models.directories=[{folder}]") as server:
                client = client_of(server, max_retries=0)
                deadline = time.monotonic() + 30
                while True:
                    try:
                        loaded = client.post("/models/load", body={"path": "other.gguf"}, cast_to=openai.types.Model)
                        break
                    except openai.ConflictError:  # the first model has not been proved yet
                        self.assertLess(time.monotonic(), deadline)
                        time.sleep(0.1)
                self.assertEqual(loaded.id, "other")
                self.assertEqual([m.id for m in client.models.list().data], ["other"])
                with self.assertRaises(openai.NotFoundError):
                    client.completions.create(model="demo", prompt="x", max_tokens=1)
                self.assertTrue(client.completions.create(model="other", prompt="Once", max_tokens=4).choices[0].text)
                for path, expected in (("/etc/passwd", openai.PermissionDeniedError),
                                       ("none.gguf", openai.NotFoundError), ("", openai.BadRequestError)):
                    with self.assertRaises(expected):
                        client.post("/models/load", body={"path": path}, cast_to=dict)
                self.assertTrue(client.models.delete("other").deleted)
                self.assertEqual(client.models.list().data, [])
                with self.assertRaises(openai.InternalServerError) as raised:
                    client.completions.create(model="other", prompt="x", max_tokens=1)
                self.assertEqual((raised.exception.status_code, raised.exception.code), (503, "no_model"))

    def test_completion_and_its_stream_say_the_same(self):
        whole = self.complete()
        self.assertEqual(whole.object, "text_completion")
        self.assertEqual(whole.choices[0].finish_reason, "length")
        self.assertEqual(whole.usage.completion_tokens, 12)
        self.assertEqual(whole.usage.total_tokens, whole.usage.prompt_tokens + 12)
        chunks = list(self.complete(stream=True))
        self.assertEqual("".join(c.choices[0].text for c in chunks), whole.choices[0].text)
        self.assertEqual(chunks[-1].choices[0].finish_reason, "length")
        self.assertEqual(len({c.id for c in chunks}), 1)

    def test_chat_and_its_stream_say_the_same(self):
        whole = self.chat()
        self.assertEqual(whole.choices[0].message.role, "assistant")
        chunks = list(self.chat(stream=True, stream_options={"include_usage": True}))
        self.assertEqual(chunks[0].choices[0].delta.role, "assistant")
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        self.assertEqual(text, whole.choices[0].message.content)
        self.assertEqual(chunks[-1].choices, [])
        self.assertEqual(chunks[-1].usage.completion_tokens, whole.usage.completion_tokens)
        self.assertTrue(all(c.usage is None for c in chunks[:-1]))

    def test_messages_may_have_parts_and_developers(self):
        answer = self.chat(messages=[{"role": "developer", "content": "Be brief."},
                                     {"role": "user", "content": [{"type": "text", "text": "What is"},
                                                                  {"type": "text", "text": "a liveness probe?"}]}])
        self.assertTrue(answer.choices[0].message.content)

    def test_seeds_repeat_and_n_differs(self):
        first, again = (self.complete(temperature=1.2, seed=5, n=3) for _ in range(2))
        texts = [c.text for c in first.choices]
        self.assertEqual(texts, [c.text for c in again.choices])
        self.assertEqual([c.index for c in first.choices], [0, 1, 2])
        self.assertGreater(len(set(texts)), 1)

    def test_prompts_may_be_lists_and_tokens(self):
        tokens = self.post("/tokenize", {"content": "Once upon a time"})["tokens"]
        self.assertEqual(self.post("/detokenize", {"tokens": tokens})["content"].strip(), "Once upon a time")
        answer = self.complete(prompt=["Once upon a time", "The end"])
        self.assertEqual([c.index for c in answer.choices], [0, 1])
        self.assertEqual(len(self.complete(prompt=tokens).choices), 1)

    def post(self, path, body):
        return self.client.post(f"http://127.0.0.1:{self.server.port}{path}", body=body, cast_to=dict)

    def test_stop_strings_end_the_text_across_tokens(self):
        text = self.complete(max_tokens=40).choices[0].text
        stop = text[7:13]
        for stream in (False, True):
            answer = self.complete(max_tokens=40, stop=[stop, "never said"], stream=stream)
            parts = list(answer) if stream else [answer]
            got = "".join(p.choices[0].text for p in parts)
            self.assertEqual(got, text[: text.index(stop)])
            self.assertEqual(parts[-1].choices[0].finish_reason, "stop")

    def test_logprobs_belong_to_their_tokens(self):
        legacy = self.complete(logprobs=3).choices[0]
        self.assertEqual("".join(legacy.logprobs.tokens), legacy.text)
        self.assertTrue(all(-9999 <= x <= 0 for x in legacy.logprobs.token_logprobs))
        self.assertTrue(all(len(t) <= 3 for t in legacy.logprobs.top_logprobs))
        for stream in (False, True):
            answer = self.chat(logprobs=True, top_logprobs=2, stream=stream)
            choices = [c.choices[0] for c in answer] if stream else [answer.choices[0]]
            entries = [e for c in choices if c.logprobs for e in c.logprobs.content]
            self.assertEqual(len(entries), 16)
            for entry in entries:
                self.assertEqual(len(entry.top_logprobs), 2)
                self.assertEqual(entry.token, entry.top_logprobs[0].token)  # greedy

    def test_biases_and_penalties_change_the_choice(self):
        plain = self.complete(max_tokens=1, logprobs=1)
        token = self.post("/tokenize", {"content": " zebra"})["tokens"][0]
        biased = self.complete(max_tokens=1, logit_bias={str(token): 100})
        self.assertNotEqual(plain.choices[0].text, biased.choices[0].text)
        repeated = self.complete(max_tokens=60).choices[0].text
        self.assertNotEqual(repeated, self.complete(max_tokens=60, frequency_penalty=2, presence_penalty=2)
                            .choices[0].text)

    def test_extensions_pass_through_extra_body(self):
        plain = self.complete()
        answer = self.complete(temperature=1, extra_body={"top_k": 1, "min_p": 0.1, "repetition_penalty": 1.0,
                                                          "ignore_eos": True, "priority": -1, "timeout": 30})
        self.assertEqual(answer.choices[0].text, plain.choices[0].text)

    def test_harmless_parameters_are_accepted(self):
        self.chat(user="u", metadata={"k": "v"}, store=False, service_tier="auto", parallel_tool_calls=False,
                  max_completion_tokens=4, modalities=["text"], n=1, response_format={"type": "text"})
        self.complete(echo=False, best_of=1, suffix="", user="u")

    def test_wrong_requests_raise_the_right_classes(self):
        for wrong in ({"temperature": 9}, {"n": 0}, {"stop": [""]}, {"logit_bias": {"x": 1}}, {"echo": True},
                      {"suffix": "x"}, {"best_of": 3}, {"prompt": []}, {"prompt": "word " * 9000}):
            with self.subTest(str(wrong)[:40]), self.assertRaises(openai.BadRequestError) as raised:
                self.complete(**wrong)
            self.assertTrue(raised.exception.body["message"])
            self.assertTrue(raised.exception.request_id)
        with self.assertRaises(openai.NotFoundError) as raised:
            self.complete(model="other")
        self.assertEqual(raised.exception.code, "model_not_found")
        with self.assertRaises(openai.BadRequestError):
            self.chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}])

    def test_timeouts_end_a_request_and_are_not_tried_again(self):
        began = time.monotonic()
        with self.assertRaises(openai.APIStatusError) as raised:
            self.complete(max_tokens=2000, n=16, temperature=1,
                          extra_body={"ignore_eos": True, "timeout": 0.05})
        self.assertEqual(raised.exception.status_code, 408)
        self.assertEqual(raised.exception.code, "deadline_exceeded")
        self.assertLess(time.monotonic() - began, 5)
        with self.assertRaises(openai.APIError):
            for _ in self.complete(max_tokens=2000, n=16, temperature=1, stream=True,
                                   extra_body={"ignore_eos": True, "timeout": 0.2}):
                pass

    def test_full_queue_raises_a_rate_limit_error(self):
        with Server("--engine.max-sequences=1", "--engine.max-queued=1") as server:
            client = client_of(server, max_retries=0)
            with self.assertRaises((openai.RateLimitError, openai.InternalServerError)) as raised:
                client.completions.create(model="demo", prompt="x", max_tokens=1000, n=40,
                                          extra_body={"ignore_eos": True})
            self.assertIn(raised.exception.status_code, (429, 503))
            self.assertIn("retry-after", raised.exception.response.headers)

    def test_silent_streams_get_comments(self):
        with Server("--engine.max-sequences=1", "--http.sse-ping=20ms") as server:
            blocker = client_of(server).completions.create(
                model="demo", prompt="x", max_tokens=1500, n=16, stream=True, extra_body={"ignore_eos": True})
            next(iter(blocker))  # the only place is taken
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            connection.request("POST", "/v1/completions", json.dumps(
                {"prompt": "x", "max_tokens": 2, "stream": True, "priority": 1}),
                {"Content-Type": "application/json", "Authorization": "Bearer any"})
            events = connection.getresponse().read().decode().split("\n\n")
            blocker.close()
        self.assertIn(": ping", events)
        self.assertEqual([e for e in events if e and e != ": ping"][-1], "data: [DONE]")

    def test_cancelled_stream_leaves_no_work_behind(self):
        stream = self.complete(max_tokens=1500, temperature=1, stream=True, extra_body={"ignore_eos": True})
        next(iter(stream))
        stream.close()
        deadline = time.monotonic() + 20
        while self.active() > 0:
            self.assertLess(time.monotonic(), deadline, "the request still runs")
            time.sleep(0.02)

    def active(self):
        return self.client.get(f"http://127.0.0.1:{self.server.port}/health", cast_to=dict)["metrics"][
            "active_requests"]

    def test_sixteen_streams_at_once_say_what_each_says_alone(self):
        def read(seed):
            return "".join(c.choices[0].text for c in self.complete(
                max_tokens=40, temperature=1, seed=seed, stream=True))

        alone = [read(seed) for seed in range(16)]
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            self.assertEqual(list(pool.map(read, range(16))), alone)

    def test_inference_in_the_form_of_bitnet_rs(self):
        answer = self.post("/v1/inference",
                           {"prompt": "Once upon a time", "max_tokens": 8, "temperature": 0, "priority": "high"})
        self.assertEqual(answer["tokens_generated"], 8)
        self.assertEqual(answer["text"], self.complete(max_tokens=8).choices[0].text)


if __name__ == "__main__":
    unittest.main()
