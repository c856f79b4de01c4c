"""Mixed load whose right answers are known: streams, bursts of short requests, long prompts."""

import contextlib
import http.client
import json
import threading
import time

PROMPTS = ("Once upon a time", "The fox said", "In the morning", "A small house")
VARIANTS = tuple((prompt, seed) for seed in (1, 2) for prompt in PROMPTS)
STREAM_TOKENS = 300


def stream_body(prompt, seed):
    return {"prompt": prompt, "max_tokens": STREAM_TOKENS, "temperature": 0.8, "seed": seed, "ignore_eos": True,
            "stream": True}


def read_stream(port, prompt, seed, timeout=90):
    """(status, text, error) of a whole stream; the longest pause between two events comes last."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    text, longest, last, done = [], 0.0, time.monotonic(), False
    with contextlib.closing(connection):
        try:
            connection.request("POST", "/v1/completions", json.dumps(stream_body(prompt, seed)),
                               {"Content-Type": "application/json"})
            response = connection.getresponse()
        except (OSError, http.client.HTTPException):
            return None, "", "no answer began", 0.0
        if response.status != 200:
            return response.status, "", response.read().decode(errors="replace"), 0.0
        while line := response.readline():
            if not line.startswith(b"data: "):
                continue
            now = time.monotonic()
            longest, last = max(longest, now - last), now
            data = line[6:].strip()
            if data == b"[DONE]":
                done = True
                break
            event = json.loads(data)
            if "error" in event:
                return 200, "".join(text), event["error"]["message"], longest
            text += [c["text"] for c in event["choices"]]
    return 200, "".join(text), None if done else "the stream broke off", longest


def references(port):
    """The text of each variant on an undisturbed server."""
    result = {}
    for prompt, seed in VARIANTS:
        status, text, error, _ = read_stream(port, prompt, seed)
        if status != 200 or error:
            raise RuntimeError(f"no reference: {status} {error}")
        result[prompt, seed] = text
    return result


class Load:
    def __init__(self, port, expected, streams=4, bursts=True, long_prompts=True):
        self.port = port
        self.expected = expected
        self.completed = self.lost = self.altered = self.refused = 0
        self.longest_pause = 0.0
        self.pauses: list[float] = []  # the longest of each stream
        self.problems: list[str] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        work = [lambda i=i: self._stream(i) for i in range(streams)]
        if bursts:
            work.append(self._bursts)
        if long_prompts:
            work.append(self._long_prompts)
        self._threads = [threading.Thread(target=self._guarded, args=(w,), daemon=True) for w in work]
        for t in self._threads:
            t.start()

    def _guarded(self, work):
        while not self._stop.is_set():
            try:
                work()
            except (OSError, http.client.HTTPException, ValueError):
                self._stop.wait(0.05)

    def _stream(self, index):
        turn = index
        while not self._stop.is_set():
            variant = VARIANTS[turn % len(VARIANTS)]
            turn += 1
            try:
                status, text, error, pause = read_stream(self.port, *variant)
            except (OSError, http.client.HTTPException) as problem:
                status, text, error, pause = 200, "", repr(problem), 0.0
            with self._lock:
                if status == 200 and error is None:
                    self.completed += 1
                    self.longest_pause = max(self.longest_pause, pause)
                    self.pauses.append(pause)
                    if text != self.expected[variant]:
                        self.altered += 1
                        self.problems.append(f"altered: {variant}")
                elif status in (None, 429, 503):  # nothing had begun
                    self.refused += 1
                else:
                    self.lost += 1
                    self.problems.append(f"lost: {status} {error}")
            if status != 200:
                self._stop.wait(0.1)

    def _post(self, body):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
            connection.getresponse().read()

    def _bursts(self):
        threads = [threading.Thread(target=self._guard_once,
                                    args=({"prompt": "Hello", "max_tokens": 4, "temperature": 0},))
                   for _ in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self._stop.wait(1.0)

    def _guard_once(self, body):
        with contextlib.suppress(OSError, http.client.HTTPException):
            self._post(body)

    def _long_prompts(self):
        self._post({"prompt": "Once upon a time there was a fox. " * 60, "max_tokens": 2, "temperature": 0})
        self._stop.wait(1.0)

    def stop(self, seconds=60):
        """Lets what runs finish; what does not is lost."""
        self._stop.set()
        deadline = time.monotonic() + seconds
        for t in self._threads:
            t.join(max(0.0, deadline - time.monotonic()))
        stuck = sum(t.is_alive() for t in self._threads)
        if stuck:
            self.lost += stuck
            self.problems.append(f"{stuck} clients never got an end")
