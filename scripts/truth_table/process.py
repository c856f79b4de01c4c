"""A server of the experiment: started, spoken to, broken and ended."""

import contextlib
import http.client
import json
import os
import pathlib
import re
import select
import signal
import socket
import subprocess
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARIES = pathlib.Path(os.environ.get("BITNET_BINARIES", ROOT / "build/release/bin"))
PROBE_PATHS = ("/health/live", "/health/ready", "/health")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class ServerProcess:
    """bitnet-server on a free port. `log_reader` says what happens to its log: "read", "ignore" or "close"."""

    def __init__(self, model, *options, prefix=(), log_full=False):
        self.log: list[str] = []
        self.log_reader = "read"
        self.port = 0
        read_end, write_end = os.pipe()
        if log_full:
            os.close(write_end)
            write_end = os.open("/dev/full", os.O_WRONLY)
        wanted_port = free_port() if log_full else 0
        self.process = subprocess.Popen(
            [*prefix, str(BINARIES / "bitnet-server"), f"--model={model}", f"--http.port={wanted_port}",
             "--health.startup-grace=0s", "--debug.fault-injection=true", *options],
            cwd=ROOT, stdout=write_end, stderr=write_end)
        os.close(write_end)
        self._log_end = read_end
        self._listening = threading.Event()
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        if log_full:
            self.port = wanted_port

    def _read_log(self):
        rest = b""
        while self.log_reader != "close":
            if self.log_reader == "ignore":
                time.sleep(0.02)
                continue
            if not select.select([self._log_end], [], [], 0.05)[0]:
                continue
            data = os.read(self._log_end, 65536)
            if not data:
                break
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                text = line.decode(errors="replace")
                self.log.append(text)
                if match := re.search(r"listening on https?://\S+:(\d+)", text):
                    self.port = int(match.group(1))
                    self._listening.set()
        os.close(self._log_end)
        self._listening.set()

    def wait_listening(self, seconds=60) -> bool:
        self._listening.wait(seconds)
        deadline = time.monotonic() + seconds
        while self.port != 0 and self.process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError, http.client.HTTPException):
                self.request("GET", "/health/live", timeout=1)
                return True
            time.sleep(0.05)
        return False

    def request(self, method, path, body=None, timeout=60.0):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        with contextlib.closing(connection):
            headers = {"Content-Type": "application/json"} if body is not None else {}
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            response = connection.getresponse()
            return response.status, response.read()

    def inject(self, fault, **parameters):
        status, body = self.request("POST", "/debug/faults", {"fault": fault, **parameters})
        if status != 200:
            raise RuntimeError(f"fault {fault} was refused: {body.decode(errors='replace')}")
        return json.loads(body)

    def faults(self) -> set[str]:
        status, body = self.request("GET", "/debug/faults")
        return {f["fault"] for f in json.loads(body)["faults"]} if status == 200 else set()

    def metric(self, name) -> float:
        _, body = self.request("GET", "/metrics")
        for line in body.decode().splitlines():
            if line.startswith(name + " "):
                return float(line.split()[1])
        raise KeyError(name)

    def codes(self) -> dict[str, str]:
        """Machine-readable code of each component that is not healthy."""
        _, body = self.request("GET", "/health")
        components = json.loads(body).get("components", {})
        return {name: c.get("code", "?") for name, c in components.items() if c["status"] != "healthy"}

    def events(self) -> list[dict]:
        _, body = self.request("GET", "/health/events")
        return json.loads(body).get("events", [])

    def processes(self) -> dict[str, int]:
        """Ids of "loader" (holds the weights) and "engine" (computes); 0: there is none now."""
        _, body = self.request("GET", "/health")
        return json.loads(body)["processes"]

    def wait_ready(self, seconds=60):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.request("GET", "/health/ready", timeout=1)[0] == 200:
                    return
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError("the server did not become ready:\n" + "\n".join(self.log[-20:]))

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self) -> int:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
        code = self.process.wait()
        self.log_reader = "close"
        self._reader.join(5)
        return code
