"""Starts the real bitnet-server on a free loopback port and talks to it with the standard library alone."""

import contextlib
import http.client
import json
import os
import pathlib
import re
import signal
import subprocess
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARIES = pathlib.Path(os.environ.get("BITNET_BINARIES", ROOT / "build/release/bin"))
DEMO_MODEL = ROOT / "models/demo.gguf"
# Sanitizers make everything slower: every deadline in these tests is multiplied by this.
SLOWDOWN = float(os.environ.get("BITNET_TEST_SLOWDOWN", "1"))
SANITIZERS = os.environ.get("BITNET_TEST_SANITIZERS", "")  # for example "address,undefined"


class Answer:
    """One HTTP response, read to its end."""

    def __init__(self, response: http.client.HTTPResponse, body: bytes):
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = body

    def json(self):
        return json.loads(self.body)


def server_command(*options: str, model: pathlib.Path | str | None = DEMO_MODEL) -> list[str]:
    command = [str(BINARIES / "bitnet-server"), "--http.port=0"]
    if model is not None:
        command.append(f"--model={model}")
    return command + list(options)


class Server:
    """A running server; use as a context manager. `log` collects what it writes."""

    def __init__(self, *options: str, model=DEMO_MODEL, environment=None, command_prefix=()):
        self.log: list[str] = []
        self._listening = threading.Event()
        self.port = 0
        self.process = subprocess.Popen(
            [*command_prefix, *server_command(*options, model=model)],
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

    def _read_log(self):
        for line in self.process.stdout:
            self.log.append(line.rstrip("\n"))
            match = re.search(r"listening on https?://\S+:(\d+)", line)
            if match:
                self.port = int(match.group(1))
                self._listening.set()
        self._listening.set()  # it has ended: do not wait any longer

    def __enter__(self):
        self._listening.wait(30 * SLOWDOWN)
        if not self.port:
            self.stop()
            raise AssertionError("the server did not start:\n" + "\n".join(self.log))
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """Ends the process, by SIGKILL if it must, and returns its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20 * SLOWDOWN)
            except subprocess.TimeoutExpired:
                self.process.kill()
        code = self.process.wait()
        self._reader.join(5)
        if not self._reader.is_alive():  # else somebody else has the other end, and closing would wait for him
            self.process.stdout.close()
        return code

    def signal(self, number: signal.Signals):
        self.process.send_signal(number)

    def connect(self, timeout: float = 30) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout * SLOWDOWN)

    def request(self, method: str, path: str, body=None, headers=None, timeout: float = 30) -> Answer:
        connection = self.connect(timeout)
        with contextlib.closing(connection):
            if isinstance(body, (dict, list)):
                body = json.dumps(body)
            connection.request(method, path, body=body, headers=headers or {})
            response = connection.getresponse()
            return Answer(response, response.read())

    def get(self, path: str) -> Answer:
        return self.request("GET", path)

    def post(self, path: str, body, **kwargs) -> Answer:
        return self.request("POST", path, body, {"Content-Type": "application/json"}, **kwargs)

    def stream(self, path: str, body: dict):
        """Yields the data of each server-sent event, the final [DONE] included."""
        connection = self.connect()
        with contextlib.closing(connection):
            connection.request("POST", path, json.dumps({**body, "stream": True}), {"Content-Type": "application/json"})
            response = connection.getresponse()
            if response.status != 200:
                raise AssertionError(f"status {response.status}: {response.read()!r}")
            if not response.getheader("Content-Type").startswith("text/event-stream"):
                raise AssertionError("not an event stream")
            while line := response.readline():
                line = line.rstrip(b"\r\n")
                if line.startswith(b"data: "):
                    yield line[len(b"data: "):].decode()

    def wait_until(self, condition, seconds: float, what: str):
        """Polls `condition` until it is true; fails after `seconds`."""
        deadline = time.monotonic() + seconds * SLOWDOWN
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds} s: {what}\n" + "\n".join(self.log[-20:]))
            time.sleep(0.02)

    def wait_ready(self, seconds: float = 30):
        self.wait_until(lambda: self.get("/health/ready").status == 200, seconds, "/health/ready answers 200")
        return self


def run_server(*options: str, model=DEMO_MODEL, environment=None, timeout: float = 30) -> subprocess.CompletedProcess:
    """Runs a server that is expected to end by itself."""
    return subprocess.run(
        server_command(*options, model=model),
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=timeout * SLOWDOWN,
    )
