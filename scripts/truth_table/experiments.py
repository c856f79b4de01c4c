"""The faults, and what the endpoints must say of each."""

import contextlib
import dataclasses
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable

OK = (200, 200, 200)
NOT_READY = (200, 503, 503)
DEAD = (503, 503, 503)
SILENT = (None, None, None)


@dataclasses.dataclass
class Experiment:
    """One fault. `expected` is (live, ready, health); `within` the deadline to see it, `heals` to be well again
    after the fault has ended (None: it stays). `cause` breaks the server and returns what ends the fault."""

    number: str
    title: str
    expected: tuple
    within: float
    cause: Callable
    heals: float | None = 5.0
    code: str | None = None  # of a component, while the fault is there
    event: str | None = None  # in the history, afterwards
    lasts: float = 3.0  # how long the fault is observed where nothing ends it
    loses_streams: bool = False  # clients must notice
    starts_well: bool = True
    options: tuple = ()
    prefix: tuple = ()
    needs: str | None = None  # a fault that the server must offer
    load: dict = dataclasses.field(default_factory=dict)
    note: str = ""


def nothing():
    pass


def injected(fault, **parameters):
    def cause(x):
        x.server.inject(fault, **parameters)
        return nothing
    return cause


def kill_engine(number):
    def cause(x):
        pid = x.server.engine_pid()
        if not pid:
            raise RuntimeError("the engine is no process of its own")
        x.since = time.monotonic()
        os.kill(pid, number)
        return nothing
    return cause


def stop_server(seconds):
    def cause(x):
        x.server.signal(signal.SIGSTOP)
        time.sleep(seconds)
        x.server.signal(signal.SIGCONT)
        x.since = time.monotonic()
        return nothing
    return cause


def model_file(change):
    def cause(x):
        change(x.model)
        return nothing
    return cause


def move_away(x):
    away = x.model.with_suffix(".away")
    os.rename(x.model, away)
    return lambda: os.rename(away, x.model)


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def replace(path):
    other = path.with_suffix(".new")
    shutil.copy(path, other)
    os.replace(other, path)


def write_to(path):
    with open(path, "r+b") as f:
        f.seek(-4096, os.SEEK_END)
        f.write(b"\xff" * 64)


def memory_to(percent_above):
    """Takes so much memory that use rises by this many percent of the machine."""
    def cause(x):
        total = int(pathlib.Path("/proc/meminfo").read_text().split()[1]) // 1024
        x.server.inject("memory-pressure", mib=int(total * percent_above / 100), seconds=4)
        x.since = time.monotonic()  # taking gigabytes takes a while itself
        return nothing
    return cause


def used_percent():
    fields = {line.split(":")[0]: int(line.split()[1]) for line in pathlib.Path("/proc/meminfo").read_text().splitlines()}
    return 100 * (1 - fields["MemAvailable"] / fields["MemTotal"])


def memory_thresholds(degraded, unhealthy):
    def options():
        used = used_percent()
        return (f"--health.memory-degraded-percent={used + degraded:.1f}",
                f"--health.memory-unhealthy-percent={used + unhealthy:.1f}")
    return options


def fill_queue(x):
    stop = threading.Event()

    def client():
        while not stop.is_set():
            with contextlib.suppress(Exception):
                x.server.request("POST", "/v1/completions", {"prompt": "Once", "max_tokens": 400, "ignore_eos": True})
            stop.wait(0.02)
    for _ in range(12):
        threading.Thread(target=client, daemon=True).start()
    return stop.set


def slow_client(x):
    """Asks for a long stream and never reads it."""
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    s.connect(("127.0.0.1", x.server.port))
    body = b'{"prompt":"Once","max_tokens":400,"ignore_eos":true,"stream":true,"logprobs":5}'
    s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
              % (len(body), body))
    return s.close


def leaving_clients(x):
    """Twenty clients that ask and go."""
    body = b'{"prompt":"Once","max_tokens":400,"ignore_eos":true,"stream":true}'
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", x.server.port)) as s:
            s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                      b"Content-Length: %d\r\n\r\n%s" % (len(body), body))

    def check():
        deadline = time.monotonic() + 5
        while x.server.metric("bitnet_streams_active") > 6:
            if time.monotonic() > deadline:
                raise RuntimeError("the slots of clients that left are still taken after 5 s")
            time.sleep(0.05)
    return check


def many_connections(x):
    held = [socket.create_connection(("127.0.0.1", x.server.port)) for _ in range(300)]
    for s in held:
        s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n")  # and never goes on

    def release():
        for s in held:
            s.close()
    return release


def busy_loops(x):
    loops = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(2 * (os.cpu_count() or 2))]

    def end():
        for p in loops:
            p.kill()
            p.wait()
    return end


NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")  # limits on threads do not bind root


def no_more_threads(x):
    pid = str(x.server.process.pid)
    def limit(soft):
        subprocess.run([*NOBODY, "prlimit", "--pid", pid, f"--nproc={soft}:"], check=True, stdout=subprocess.DEVNULL)
    limit(1)
    return lambda: limit(4096)


def log_reader(mode):
    def cause(x):
        x.server.log_reader = mode
        stop = threading.Event()

        def chatter():  # every request is a line of the log
            while not stop.is_set():
                with contextlib.suppress(Exception):
                    x.server.request("GET", "/v1/models/" + "x" * 2000)
        for _ in range(4):
            threading.Thread(target=chatter, daemon=True).start()

        def restore():
            stop.set()
            if mode == "ignore":
                x.server.log_reader = "read"
        return restore
    return cause


def drain(x):
    x.server.signal(signal.SIGTERM)
    return nothing


ALL = [
    Experiment("1", "engine hangs in a forward pass", NOT_READY, 5, injected("hang"), heals=30, lasts=0, needs="hang"),
    Experiment("1b", "engine process stopped (SIGSTOP)", NOT_READY, 5, kill_engine(signal.SIGSTOP), heals=30, lasts=0,
               needs="hang"),
    Experiment("2", "engine process killed (SIGKILL) in mid-stream", NOT_READY, 1, kill_engine(signal.SIGKILL), heals=5,
               lasts=0, event="worker_restarted", needs="hang"),
    Experiment("2b", "engine crashes (SIGSEGV)", NOT_READY, 1, injected("crash", how="segv"), heals=5, lasts=0,
               event="worker_restarted", needs="crash"),
    Experiment("3", "livelock: steps without tokens", NOT_READY, 35, injected("livelock"), heals=30, lasts=0,
               needs="livelock"),
    Experiment("4", "deadlock: every block of the KV cache is lost, nothing can run", NOT_READY, 15, injected("kv-leak"),
               heals=30, lasts=0, needs="kv-leak"),
    Experiment("5", "aggregator hangs", DEAD, 3, injected("aggregator-stall", seconds=6), heals=8, lasts=0),
    Experiment("5b", "aggregator crashes", OK, 1, injected("aggregator-crash"), event="aggregator_restarted",
               note="restarted before a snapshot gets old"),
    Experiment("6", "300 connections that never finish a request", OK, 1, many_connections),
    Experiment("11", "NaN logits from now on", NOT_READY, 2, injected("nan", steps=0), heals=30, lasts=0, needs="nan"),
    Experiment("11b", "NaN logits in one step", OK, 2, injected("nan"), needs="nan",
               note="the request is tried again, a canary proves the engine"),
    Experiment("12", "a bit of the weights flips in memory", NOT_READY, 35, injected("bit-flip"), heals=30, lasts=0,
               needs="bit-flip"),
    Experiment("13", "model file truncated", NOT_READY, 2, model_file(truncate), heals=None, code="file_truncated",
               note="the weights are in memory and sound; a restart would fail"),
    Experiment("14", "model file replaced", NOT_READY, 2, model_file(replace), heals=None, code="file_replaced"),
    Experiment("14b", "model file moved away, and back", NOT_READY, 2, move_away, code="file_missing"),
    Experiment("14c", "model file written to", NOT_READY, 2, model_file(write_to), heals=None, code="file_modified"),
    Experiment("17", "memory above the unhealthy threshold", NOT_READY, 2, memory_to(9), code="memory_limit", heals=8,
               lasts=0, options=memory_thresholds(5, 7), note="counted from when all of it was taken"),
    Experiment("17b", "memory above the degraded threshold", NOT_READY, 2, memory_to(9), code="memory_high", heals=8,
               lasts=0, options=memory_thresholds(6, 30), note="likewise"),
    Experiment("20", "KV cache smaller than the load: sequences are preempted", OK, 1, lambda x: nothing,
               options=("--engine.kv-cache-mb=3",), lasts=6),
    Experiment("21", "KV cache too small for one context", NOT_READY, 2, lambda x: nothing, heals=None,
               code="engine_refused", options=("--engine.kv-cache-mb=1",), starts_well=False,
               load={"streams": 0, "bursts": False, "long_prompts": False}),
    Experiment("22", "queue saturated", NOT_READY, 3, fill_queue, heals=15, code="queue_saturated",
               options=("--engine.max-sequences=1", "--engine.max-queued=4"), load={"streams": 0, "bursts": False,
                                                                                "long_prompts": False}),
    Experiment("24", "throughput collapse: every step fifty times slower", NOT_READY, 35,
               injected("slow-step", factor=50, seconds=45), heals=60, lasts=0, needs="slow-step"),
    Experiment("25", "client that does not read", OK, 1, slow_client, options=("--http.write-timeout=1s",)),
    Experiment("26", "twenty clients that leave", OK, 1, leaving_clients),
    Experiment("26b", "blocks of the KV cache leak", NOT_READY, 12, injected("kv-leak", blocks=3), heals=None,
               code="kv_leak", needs="kv-leak", load={"streams": 0, "bursts": False, "long_prompts": False}),
    Experiment("27", "no file descriptor left", NOT_READY, 2, injected("file-exhaustion", seconds=4), heals=8, lasts=0,
               code="files_exhausted", options=("--http.max-connections=512",), prefix=("prlimit", "--nofile=1024")),
    Experiment("28", "no thread can be started", NOT_READY, 3, no_more_threads, code="thread_limit",
               prefix=(*NOBODY, "prlimit", "--nproc=4096:4096")),
    Experiment("29", "log cannot be written", NOT_READY, 5, log_reader("close"), heals=None, code="log_write_failed"),
    Experiment("29b", "nobody reads the log", NOT_READY, 20, log_reader("ignore"), heals=8, code="log_blocked"),
    Experiment("30", "wall clock jumps by an hour", OK, 1, injected("clock-jump", seconds=3600), event="clock_jump"),
    Experiment("31", "process stopped for a second", OK, 1.5, stop_server(1)),
    Experiment("31b", "process stopped for five seconds", OK, 1.5, stop_server(5), event="suspended"),
    Experiment("34", "SIGTERM: draining", NOT_READY, 1, drain, heals=None, lasts=0.2),
    Experiment("35", "canary of an idle engine does not come back", NOT_READY, 20, injected("hang"), heals=30, lasts=0,
               needs="hang", load={"streams": 0, "bursts": False, "long_prompts": False}),
    Experiment("-", "CPU starvation: two busy loops a core", OK, 1, busy_loops, lasts=15),
]


class Run:
    """What an experiment may touch."""

    def __init__(self, server, model):
        self.server = server
        self.model = model
        self.since = time.monotonic()
