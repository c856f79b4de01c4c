"""Kills engines in a row, in the middle of streams whose right text is known."""

import os
import random
import signal
import statistics
import time

from . import experiments, faults
from .load import Load
from .run import start

SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


def kill_engines(count, how, source, expected_texts, seed=1):
    """`how`: "kill" or "stop"."""
    e = experiments.Experiment("-", "kills", experiments.OK, 0, lambda x: faults.nothing)
    server = start(e, source)
    load = Load(server.port, expected_texts, streams=4, bursts=False, long_prompts=False)
    chance = random.Random(seed)
    recovery = []
    try:
        for _ in range(count):
            time.sleep(chance.uniform(0.2, 0.8))
            before = server.processes()
            at = time.monotonic()
            os.kill(before["engine"], SIGNALS[how])
            while (now := server.processes())["engine"] in (0, before["engine"]):
                if time.monotonic() - at > 30:
                    raise RuntimeError(f"the engine was not replaced: {server.codes()}")
                time.sleep(0.005)
            server.wait_ready(10)
            recovery.append(time.monotonic() - at)
        load.stop()
        restarts = now["worker_restarts"]
        hit = sorted(load.pauses)[-count:]
        return {"kills": count, "how": how, "restarts": restarts, "completed": load.completed, "lost": load.lost,
                "altered": load.altered, "resumed": int(server.metric("bitnet_streams_resumed_total")),
                "recovery_median": statistics.median(recovery), "recovery_max": max(recovery),
                "gap_median": statistics.median(hit), "gap_max": load.longest_pause, "problems": load.problems[:4]}
    finally:
        load.stop(1)
        server.stop()
