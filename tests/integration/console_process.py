"""Runs the real bitnet-console against a real server."""

import json
import os
import pathlib
import pty
import re
import select
import subprocess
import tempfile
import time

from server_process import BINARIES, SLOWDOWN, Server

CONSOLE = BINARIES / "bitnet-console"
EXIT_OK, EXIT_DEGRADED, EXIT_UNREACHABLE, EXIT_USAGE = 0, 1, 2, 64


class ConsoleServer(Server):
    """A server with a console socket of its own, in a directory that goes with it."""

    def __init__(self, *options: str, **kwargs):
        self._directory = tempfile.TemporaryDirectory(prefix="console-")
        self.socket = pathlib.Path(self._directory.name) / "console.sock"
        super().__init__(f"--console.socket={self.socket}", "--health.startup-grace=0s", *options, **kwargs)

    def stop(self):
        code = super().stop()
        self._directory.cleanup()
        return code

    def wait_console(self):
        self.wait_until(self.socket.exists, 30, "the console's socket is there")
        return self

    def console(self, *words: str, connect=None, stdin="", environment=None) -> subprocess.CompletedProcess:
        return run_console(f"--connect={connect or self.socket}", *words, stdin=stdin, environment=environment)

    def ask(self, *words: str) -> dict:
        """The answer of a command as JSON."""
        done = self.console("--json", *words)
        if not done.stdout:
            raise AssertionError(f"{words}: exit {done.returncode}: {done.stderr}")
        return json.loads(done.stdout)

    def result(self, *words: str):
        answer = self.ask(*words)
        if "result" not in answer:
            raise AssertionError(f"{words}: {answer}")
        return answer["result"]


def run_console(*words: str, stdin="", environment=None) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(CONSOLE), *words],
        input=stdin,
        capture_output=True,
        text=True,
        env={**os.environ, **(environment or {})},
        timeout=30 * SLOWDOWN,
    )


class Terminal:
    """A console on a pseudo-terminal; what it shows has its escape sequences taken out."""

    def __init__(self, *words: str, home: str):
        parent, child = pty.openpty()
        self._fd = parent
        self.text = ""
        self.process = subprocess.Popen(
            [str(CONSOLE), *words],
            stdin=child,
            stdout=child,
            stderr=child,
            env={**os.environ, "HOME": home, "XDG_STATE_HOME": "", "TERM": "xterm", "COLUMNS": "200"},
            start_new_session=True,
        )
        os.close(child)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._fd)

    def type(self, keys: str):
        os.write(self._fd, keys.encode())

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._fd], [], [], seconds)
        if not ready:
            return True
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # the other side is closed
            return False
        self.text += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r", "", data.decode(errors="replace"))
        return bool(data)

    def expect(self, wanted: str, seconds: float = 10) -> str:
        """Reads until `wanted` shows; returns what came up to there and forgets it."""
        deadline = time.monotonic() + seconds * SLOWDOWN
        while wanted not in self.text:
            if time.monotonic() > deadline or not self._read(0.1):
                raise AssertionError(f"{wanted!r} does not show; there is:\n{self.text}")
        before, _, self.text = self.text.partition(wanted)
        return before + wanted

    def wait(self, seconds: float = 10) -> int:
        deadline = time.monotonic() + seconds * SLOWDOWN
        while self.process.poll() is None:
            if time.monotonic() > deadline:
                raise AssertionError(f"the console does not end; it shows:\n{self.text}")
            self._read(0.05)
        return self.process.returncode
