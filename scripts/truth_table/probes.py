"""Polls the three endpoints as an impatient kubelet would."""

import contextlib
import http.client
import threading
import time

from .process import PROBE_PATHS

PERIOD = 0.02
TIMEOUT = 1.0  # the kubelet's default


class Prober:
    """Statuses of one endpoint over time: `changes` holds (time, status); no answer within a second is None.
    `fresh`: a connection for each probe, as the kubelet does."""

    def __init__(self, port, path, fresh=False):
        self.path = path
        self.changes: list[tuple[float, int | None]] = []
        self.count = 0
        self.slowest = 0.0
        self._port = port
        self._fresh = fresh
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        connection = None
        while not self._stop.is_set():
            began = time.monotonic()
            status = None
            try:
                if connection is None:
                    connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT)
                connection.request("GET", self.path)
                response = connection.getresponse()
                response.read()
                status = response.status
                self.slowest = max(self.slowest, time.monotonic() - began)
                if self._fresh:
                    connection.close()
            except (OSError, http.client.HTTPException):
                with contextlib.suppress(Exception):
                    connection.close()
                connection = None
            self.count += 1
            if not self.changes or self.changes[-1][1] != status:
                self.changes.append((time.monotonic(), status))
            self._stop.wait(max(0.0, PERIOD - (time.monotonic() - began)))
        if connection is not None:
            connection.close()

    def status(self):
        return self.changes[-1][1] if self.changes else None

    def first(self, status, since):
        """When `status` was first seen at or after `since`; `since` itself where it already was the case."""
        current = None
        for at, seen in self.changes:
            if at <= since:
                current = seen
            elif seen == status:
                return since if current == status else at
            else:
                current = seen
        return since if current == status and (not self.changes or self.changes[-1][0] <= since) else None

    def seconds_not(self, status, begin, end):
        """How long between the two times the endpoint answered something else."""
        total, current, last = 0.0, None, begin
        for at, seen in [*self.changes, (end, None)]:
            at_in = min(max(at, begin), end)
            if current is not None or at > begin:
                if current != status:
                    total += at_in - last
            last = at_in
            current = seen
        return total

    def stop(self):
        self._stop.set()
        self._thread.join(5)


class Probes:
    def __init__(self, port):
        self.all = [Prober(port, path) for path in PROBE_PATHS]

    def statuses(self):
        return tuple(p.status() for p in self.all)

    def wait_for(self, expected, since, seconds, enough=None):
        """Seconds until the endpoints answered `expected` (all at once), or None; also once `enough()`, which is
        asked now and then, is true."""
        deadline = time.monotonic() + seconds
        asked = time.monotonic()
        while time.monotonic() < deadline:
            if enough and time.monotonic() - asked > 1:
                asked = time.monotonic()
                if enough():
                    return None
            if self.statuses() == expected:
                times = [p.first(status, since) for p, status in zip(self.all, expected)]
                if all(t is not None for t in times):
                    return max(times) - since
            time.sleep(0.005)
        return None

    def slowest(self):
        return max(p.slowest for p in self.all)

    def stop(self):
        for p in self.all:
            p.stop()
