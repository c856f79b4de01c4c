"""Runs one experiment against a server of its own."""

import contextlib
import dataclasses
import datetime
import http.client
import os
import pathlib
import shutil
import sys
import tempfile
import time

from . import experiments, faults
from .load import Load
from .probes import Probes
from .process import ServerProcess


@dataclasses.dataclass
class Outcome:
    """What one experiment saw; plain values, so that it can be kept in a file."""

    number: str
    observed: list = dataclasses.field(default_factory=list)
    detected: float | None = None
    between_probes: bool = False  # no probe came while it was unwell: the history tells
    healed: float | None = None
    lost: int = 0
    altered: int = 0
    completed: int = 0
    pause: float = 0.0
    slowest_ms: float = 0.0
    wrong: list = dataclasses.field(default_factory=list)
    when: str = ""
    load_average: float = 0.0

    def verdict(self):
        return "; ".join(self.wrong) if self.wrong else "as it should"


def start(e, model, folder=None):
    options = e.options(folder) if callable(e.options) else e.options
    prefix = e.prefix(folder) if callable(e.prefix) else e.prefix
    if not any("memory-unhealthy" in o for o in options):
        # The machine of the experiment may be full; that is not what is asked here.
        options = (*options, "--health.memory-degraded-percent=99", "--health.memory-unhealthy-percent=100")
    server = ServerProcess(model, *options, prefix=prefix, log_full=e.log_full)
    if not server.wait_listening():
        server.stop()
        raise RuntimeError("it did not start: " + " | ".join(server.log[-3:]))
    if e.starts_well:
        server.wait_ready()
    return server


def wall_time(event):
    return datetime.datetime.fromisoformat(event["timestamp"].replace("Z", "+00:00")).timestamp()


def fresh_events(x):
    """Since the fault. The server's clock shows milliseconds."""
    return [v for v in x.server.events() if wall_time(v) >= x.wall - 0.001]


def said_so(x):
    with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
        return from_history(x, False) is not None
    return False


def from_history(x, healthy):
    """Seconds until the server as a whole was said to be well, or not, for the first time since the fault."""
    for v in fresh_events(x):
        if v["component"] == "server" and v["code"] != "note" and "from" in v and (v["status"] == "healthy") == healthy:
            return max(0.0, wall_time(v) - x.wall)
    return None


def wait_for_code(x, e, out):
    """Among the components, or in the history: a worker that is replaced at once is well before anybody asks."""
    while True:
        seen = {*x.server.codes().values(), *(v["code"] for v in fresh_events(x))}
        if e.code in seen:
            return
        if time.monotonic() > x.since + e.within + 1:
            out.wrong.append(f"codes {', '.join(sorted(seen)) or 'none'} instead of {e.code}")
            return
        time.sleep(0.05)


def observe_well(x, e, probes, out):
    time.sleep(max(e.lasts, e.within))
    end = time.monotonic()
    out.observed = probes.statuses()
    unwell = max(p.seconds_not(200, x.since, end) for p in probes.all)
    if unwell > e.within:
        out.wrong.append(f"not 200 for {unwell:.2f} s: {x.server.codes()}")


def observe_fault(x, e, probes, out):
    out.detected = probes.wait_for(e.expected, x.since, e.within + 2,
                                   lambda: e.expected != experiments.DEAD and said_so(x))
    if out.detected is None and e.expected != experiments.DEAD:
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            out.detected = from_history(x, False)
            out.between_probes = out.detected is not None
    out.observed = e.expected if out.detected is not None else probes.statuses()
    if out.detected is None:
        out.wrong.append("never said so")
        return
    if out.detected > e.within:
        out.wrong.append(f"said after {out.detected:.1f} s instead of {e.within:g} s")
    if e.code:
        wait_for_code(x, e, out)
    time.sleep(e.lasts)


def check_healing(x, e, probes, out, ended):
    if e.heals is None or e.expected == experiments.OK:
        return
    since = x.since if e.lasts == 0 else ended
    if out.between_probes:
        out.healed = from_history(x, True)
    else:
        # Well again means: after it was unwell.
        unwell = x.since + (out.detected or 0.0)
        waited = probes.wait_for(experiments.OK, max(unwell, since), e.heals + 10)
        out.healed = None if waited is None else waited + max(unwell, since) - since
    if out.healed is None:
        out.wrong.append(f"not well again: {x.server.codes()}")
    elif out.healed > e.heals:
        out.wrong.append(f"well again after {out.healed:.1f} s instead of {e.heals:g} s")


def experiment(x, e, probes, load, out):
    before = probes.statuses()
    if e.starts_well and before != experiments.OK:
        out.wrong.append(f"not healthy before the fault: {x.server.codes()}")
    x.now()
    end_fault = e.cause(x)
    (observe_well if e.expected == experiments.OK else observe_fault)(x, e, probes, out)
    ended = time.monotonic()
    end_fault()
    check_healing(x, e, probes, out, ended if e.lasts == 0 else time.monotonic())
    if e.event and e.event not in [v["code"] for v in x.server.events()]:
        out.wrong.append(f"no event {e.event} in the history")
    load.stop()


def run_one(e, source, expected_texts):
    out = Outcome(e.number, when=str(datetime.date.today()))
    with tempfile.TemporaryDirectory(prefix="truth-table-") as name:
        folder = pathlib.Path(name)
        os.chmod(folder, 0o755)
        model = folder / "demo.gguf"
        shutil.copy(source, model)
        server = probes = load = None
        try:
            server = start(e, model, folder)
            probes = Probes(server.port)
            load = Load(server.port, expected_texts, **e.load)
            time.sleep(e.warm_up)
            try:
                experiment(experiments.Run(server, model, folder), e, probes, load, out)
            except Exception:
                print(*server.log[-20:], f"exit code {server.process.poll()}", sep="\n", file=sys.stderr, flush=True)
                raise
            out.slowest_ms = 1000 * probes.slowest()
        finally:
            if probes:
                probes.stop()
            if load:
                load.stop(1)
                out.lost, out.altered, out.completed, out.pause = (load.lost, load.altered, load.completed,
                                                                   load.longest_pause)
            if server:
                server.stop()
            faults.remove_cgroup(folder)
        if (out.lost and not e.loses_streams) or out.altered:
            out.wrong.append(f"{out.lost} streams lost, {out.altered} altered ({'; '.join(load.problems[:2])})")
    out.load_average = os.getloadavg()[0]
    return out
