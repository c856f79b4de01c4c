"""Mixed load, CPU starvation and stops of a second: every status but 200 is a false alarm."""

import contextlib
import time

from . import experiments, faults
from .load import Load
from .probes import Probes
from .run import start


def fault_free(minutes, source, expected_texts):
    e = experiments.Experiment("-", "fault-free", experiments.OK, 0, lambda x: faults.nothing)
    server = start(e, source)
    probes = Probes(server.port)
    load = Load(server.port, expected_texts)
    x = experiments.Run(server, source, None)
    stops = 0
    began = time.monotonic()
    end = began + 60 * minutes
    try:
        while time.monotonic() < end:
            time.sleep(min(15, max(0, end - time.monotonic())))
            if time.monotonic() >= end:
                break
            end_starvation = faults.busy_loops(x)
            time.sleep(10)
            end_starvation()
            faults.stop_server(1)(x)
            stops += 1
            time.sleep(1)
        load.stop()
        # Nobody can answer while stopped: what counts is every answer that said 503.
        alarms = sum(1 for p in probes.all for _, status in p.changes if status not in (200, None))
        silent = sum(1 for p in probes.all for _, status in p.changes if status is None)
        return {"minutes": (time.monotonic() - began) / 60, "alarms": alarms, "silent": silent, "stops": stops,
                "probes": sum(p.count for p in probes.all), "slowest_ms": 1000 * probes.slowest(),
                "completed": load.completed, "lost": load.lost, "altered": load.altered,
                "restarts": x.server.processes()["worker_restarts"],
                "problems": load.problems[:4],
                "events": [f"{v['component']}: {v['code']}: {v['message']}" for v in server.events()
                           if v["uptime_ms"] > 10_000 and v["code"] != "suspended"]}
    finally:
        probes.stop()
        with contextlib.suppress(Exception):
            load.stop(1)
        server.stop()
