"""The faults, and what the endpoints must say of each."""

import dataclasses
import signal
import time
from collections.abc import Callable

from . import faults
from .faults import injected, nothing

OK = (200, 200, 200)
NOT_READY = (200, 503, 503)
DEAD = (503, 503, 503)

NO_LOAD = {"streams": 0, "bursts": False, "long_prompts": False}


@dataclasses.dataclass
class Experiment:
    """One fault. `expected` is (live, ready, health). `within`: the deadline to see it; where `expected` is OK, how
    long any endpoint may say something else. `heals`: the deadline to be well again, counted from the fault where
    the server heals itself (`lasts` is 0) and from its end otherwise; None where it stays."""

    number: str
    title: str
    expected: tuple
    within: float
    cause: Callable
    heals: float | None = 5.0
    code: str | None = None  # of a component, while the fault is there or in the history
    event: str | None = None  # in the history, afterwards
    lasts: float = 3.0  # how long the fault is observed where nothing ends it
    loses_streams: bool = False  # clients must notice
    starts_well: bool = True
    warm_up: float = 1.5  # of load before the fault
    options: tuple | Callable = ()  # a function gets the experiment's folder
    prefix: tuple | Callable = ()  # of the command, likewise
    log_full: bool = False  # the server's log goes to a full disk
    slow: bool = False  # takes minutes: only where it is named
    load: dict = dataclasses.field(default_factory=dict)
    note: str = ""


@dataclasses.dataclass
class Run:
    """What an experiment may touch. `since`: when the fault was there; `wall`: the same on the wall clock."""

    server: object
    model: object
    folder: object
    since: float = 0.0
    wall: float = 0.0

    def now(self):
        self.since, self.wall = time.monotonic(), time.time()


ALL = [
    Experiment("1", "engine hangs in a forward pass", NOT_READY, 5, injected("hang"), heals=10, lasts=0, code="hung"),
    Experiment("1b", "engine process stopped (SIGSTOP)", NOT_READY, 5, faults.signal_process("engine", signal.SIGSTOP),
               heals=10, lasts=0, code="restarting"),
    Experiment("1c", "process that holds the weights stopped (SIGSTOP)", NOT_READY, 15,
               faults.signal_process("loader", signal.SIGSTOP), heals=30, lasts=0, event="worker_restarted",
               note="the engine goes on without it, until it is replaced"),
    Experiment("2", "engine process killed (SIGKILL) in mid-stream", NOT_READY, 1,
               faults.signal_process("engine", signal.SIGKILL), heals=5, lasts=0, event="worker_restarted"),
    Experiment("2b", "engine crashes (SIGSEGV)", NOT_READY, 1, injected("crash", how="segv"), heals=5, lasts=0,
               event="worker_restarted"),
    Experiment("2c", "process that holds the weights killed", NOT_READY, 1,
               faults.signal_process("loader", signal.SIGKILL), heals=10, lasts=0, event="worker_restarted"),
    Experiment("2d", "engines that die one after another, before they prove themselves", DEAD, 60,
               faults.kill_every_engine, heals=None, code="gave_up", loses_streams=True),
    Experiment("2e", "engine killed by the kernel, out of memory", NOT_READY, 1, faults.out_of_memory, heals=15, lasts=0,
               event="worker_restarted", prefix=faults.memory_cgroup(100),
               note="in a cgroup of 100 MiB; counted from the kill"),
    Experiment("3", "livelock: steps without tokens", NOT_READY, 30, injected("livelock"), heals=40, lasts=0,
               code="livelock"),
    Experiment("4", "deadlock: every block of the KV cache is lost, nothing can run", NOT_READY, 10,
               faults.lose_every_block, heals=20, lasts=0, code="deadlock", note="counted from when the last was lost"),
    Experiment("5", "aggregator hangs", DEAD, 3, injected("aggregator-stall", seconds=6), heals=8, lasts=0),
    Experiment("5b", "aggregator crashes", OK, 0, injected("aggregator-crash"), event="aggregator_restarted",
               note="restarted before a snapshot gets old"),
    Experiment("6", "300 connections that never finish a request", OK, 0, faults.many_connections(300)),
    Experiment("6b", "4000 idle connections, four times what the server may hold", NOT_READY, 3,
               faults.many_connections(4000, request=b""), code="connections_refused", heals=15,
               note="probes have places of their own"),
    Experiment("11", "NaN logits from now on", NOT_READY, 2, injected("nan", steps=0), heals=10, lasts=0,
               event="worker_restarted"),
    Experiment("11b", "NaN logits in one step", OK, 0, injected("nan"),
               note="the requests are tried again, a canary proves the engine"),
    Experiment("12", "a bit of the weights flips in memory", NOT_READY, 30, injected("bit-flip"), heals=40, lasts=0,
               event="worker_restarted"),
    Experiment("12b", "a bit flips in the weights that all engines come from", NOT_READY, 30, faults.flip_at_source,
               heals=35, lasts=0, code="fenced",
               note="the model is loaded again; counted from when an engine has it"),
    Experiment("13", "model file truncated", NOT_READY, 1, faults.model_file(faults.truncate), heals=None,
               code="file_truncated", note="the weights are in memory and sound; a restart would fail"),
    Experiment("14", "model file replaced", NOT_READY, 1, faults.model_file(faults.replace), heals=None,
               code="file_replaced"),
    Experiment("14b", "model file moved away, and back", NOT_READY, 1, faults.move_away, code="file_missing"),
    Experiment("14c", "model file written to", NOT_READY, 1, faults.model_file(faults.write_to), heals=None,
               code="file_modified"),
    Experiment("15", "model file missing when it must be loaded again", NOT_READY, 2, faults.missing_at_reload,
               code="load_failed", lasts=5, heals=10, note="its loader was killed"),
    Experiment("15b", "model file truncated when it must be loaded again", NOT_READY, 2, faults.truncated_at_reload,
               code="load_failed", lasts=5, heals=10, note="likewise"),
    Experiment("17", "memory above the unhealthy threshold", NOT_READY, 2, faults.fill_memory(93), code="memory_limit",
               heals=4, prefix=faults.memory_cgroup(600),
               options=("--health.memory-degraded-percent=80", "--health.memory-unhealthy-percent=90"),
               note="of a cgroup of 600 MiB; counted from when all of it was taken"),
    Experiment("17b", "memory above the degraded threshold", NOT_READY, 2, faults.fill_memory(84), code="memory_high",
               heals=4, prefix=faults.memory_cgroup(600),
               options=("--health.memory-degraded-percent=80", "--health.memory-unhealthy-percent=90"),
               note="likewise"),
    Experiment("19", "memory leaks, 2 MiB a second", NOT_READY, 660, injected("memory-leak", mib=2, seconds=700),
               heals=None, code="memory_growth", prefix=faults.memory_cgroup(3000), load=NO_LOAD, slow=True,
               options=("--health.memory-degraded-percent=80", "--health.memory-unhealthy-percent=90"),
               note="in a cgroup of 3000 MiB"),
    Experiment("20", "KV cache smaller than the load: sequences are preempted", OK, 0, lambda x: nothing,
               options=("--engine.kv-cache-mb=3",), lasts=6),
    Experiment("21", "KV cache too small for one context", NOT_READY, 0.5, lambda x: nothing, heals=None,
               code="engine_refused", options=("--engine.kv-cache-mb=1",), starts_well=False, load=NO_LOAD),
    Experiment("22", "queue saturated", NOT_READY, 1, faults.fill_queue, heals=15, code="queue_saturated",
               options=("--engine.max-sequences=1", "--engine.max-queued=4"), load=NO_LOAD,
               note="counted from when it was full"),
    Experiment("23", "every fifth computation fails", NOT_READY, 30, faults.failing_computations, code="error_rate",
               heals=75, load=NO_LOAD),
    Experiment("24", "throughput collapse: every step fifty times slower", NOT_READY, 30,
               injected("slow-step", factor=50, seconds=40), heals=70, lasts=0, code="throughput_collapse",
               warm_up=45),
    Experiment("25", "client that does not read", OK, 0, faults.slow_client, options=("--http.write-timeout=1s",), lasts=10,
               note="its stream is cut off"),
    Experiment("26", "twenty clients that leave", OK, 0, faults.leaving_clients, note="their slots are free within 5 s"),
    Experiment("26b", "blocks of the KV cache leak", NOT_READY, 5, injected("kv-leak", blocks=3), heals=None,
               code="kv_leak", load=NO_LOAD),
    Experiment("27", "no file descriptor left", NOT_READY, 2, injected("file-exhaustion", seconds=4), heals=10,
               lasts=0, code="files_exhausted", options=("--http.max-connections=512",),
               prefix=("prlimit", "--nofile=1024")),
    Experiment("28", "no thread can be started", NOT_READY, 3, faults.no_more_threads, code="thread_limit",
               prefix=(*faults.NOBODY, "prlimit", "--nproc=4096:4096")),
    Experiment("29", "log cannot be written: its reader is gone", NOT_READY, 5, faults.log_reader("close"), heals=None,
               code="log_write_failed"),
    Experiment("29b", "nobody reads the log", NOT_READY, 20, faults.log_reader("ignore"), heals=8, code="log_blocked"),
    Experiment("29c", "disk of the log full", NOT_READY, 5, lambda x: nothing, heals=None, code="log_write_failed",
               starts_well=False, log_full=True),
    Experiment("30", "wall clock jumps by an hour", OK, 0, injected("clock-jump", seconds=3600), event="clock_jump"),
    Experiment("31", "process stopped for a second", OK, 0.25, faults.stop_server(1)),
    Experiment("31b", "process stopped for five seconds", OK, 0.25, faults.stop_server(5), event="suspended",
               note="one snapshot later it is well"),
    Experiment("34", "SIGTERM: draining", NOT_READY, 1, faults.drain, heals=None, lasts=0.2),
    Experiment("35", "canary of an idle engine does not come back", NOT_READY, 20, injected("hang"), heals=30, lasts=0,
               code="hung", load=NO_LOAD),
    Experiment("36", "reload of the API keys fails", NOT_READY, 3, faults.break_keys, code="reload_failed",
               options=faults.with_keys, load=NO_LOAD),
    Experiment("-", "CPU starvation: two busy loops a core", OK, 0, faults.busy_loops, lasts=15),
]

NOT_HERE = [
    ("7 to 10", "faults of a GPU", "this machine has none; docs/cuda.md says what is tested without one"),
    ("16", "hot swap of the model", "no fault while the new model works; `tests/integration/test_models.py` swaps models "
     "under load, also such as do not work"),
    ("18", "pressure on the host's memory", "the rule is tested on readings (`memory_pressure`); stalling the whole "
     "machine on purpose would stall the experiment too"),
    ("32, 33", "lost peers, partitions", "docs/cluster.md has their table"),
]
