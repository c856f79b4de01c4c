"""Runs the experiments and writes the table."""

import argparse
import dataclasses
import datetime
import http.client
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import time

from . import experiments
from .load import Load, references
from .probes import Probes
from .process import ROOT, ServerProcess

BEGIN = "<!-- truth table: begin -->"
END = "<!-- truth table: end -->"


@dataclasses.dataclass
class Outcome:
    experiment: experiments.Experiment
    observed: tuple = ()
    detected: float | None = None
    healed: float | None = None
    lost: int = 0
    altered: int = 0
    completed: int = 0
    pause: float = 0.0
    slowest_ms: float = 0.0
    wrong: list = dataclasses.field(default_factory=list)
    skipped: str = ""

    def verdict(self):
        if self.skipped:
            return "skipped: " + self.skipped
        return "; ".join(self.wrong) if self.wrong else "as it should"


def start(experiment, model, expected=None):
    options = experiment.options() if callable(experiment.options) else experiment.options
    if not any("memory-unhealthy" in o for o in options):
        # The machine of the experiment may be full; that is not what is asked here.
        options = (*options, "--health.memory-degraded-percent=99", "--health.memory-unhealthy-percent=100")
    server = ServerProcess(model, *options, prefix=experiment.prefix)
    if not server.wait_listening():
        server.stop()
        raise RuntimeError("it did not start: " + " | ".join(server.log[-3:]))
    if experiment.starts_well:
        server.wait_ready()
    return server


def observe(x, e, probes, out):
    """Causes the fault and waits for what must be said of it."""
    x.since = time.monotonic()
    end_fault = e.cause(x)
    if e.expected == experiments.OK:
        time.sleep(max(e.lasts, e.within))
        end = time.monotonic()
        out.observed = probes.statuses()
        unwell = max(p.seconds_not(200, x.since, end) for p in probes.all)
        if unwell > e.within:
            out.wrong.append(f"not 200 for {unwell:.1f} s")
        out.detected = None
    else:
        out.detected = probes.wait_for(e.expected, x.since, 3 * e.within + 2)
        out.observed = probes.statuses() if out.detected is None else e.expected
        if out.detected is None:
            out.wrong.append("never said so")
        elif out.detected > e.within:
            out.wrong.append(f"said after {out.detected:.1f} s instead of {e.within:g} s")
        if e.code and out.detected is not None:
            # A milder finding may come a period earlier.
            while e.code not in (codes := x.server.codes()).values():
                if time.monotonic() > x.since + e.within + 1:
                    out.wrong.append(f"code {', '.join(codes.values()) or 'none'} instead of {e.code}")
                    break
                time.sleep(0.05)
        time.sleep(e.lasts)
    ended = time.monotonic()
    end_fault()
    return ended


def run_one(e, source, expected_texts):
    out = Outcome(e)
    with tempfile.TemporaryDirectory(prefix="truth-table-") as folder:
        os.chmod(folder, 0o755)
        model = pathlib.Path(folder) / "demo.gguf"
        shutil.copy(source, model)
        server = start(e, model)
        probes = load = None
        try:
            if e.needs and e.needs not in server.faults():
                out.skipped = f"this server cannot be told to {e.needs}"
                return out
            probes = Probes(server.port)
            load = Load(server.port, expected_texts, **e.load)
            time.sleep(1.5)
            before = probes.statuses()
            if e.starts_well and before != experiments.OK:
                out.wrong.append(f"not healthy before the fault: {server.codes()}")
            x = experiments.Run(server, model)
            ended = observe(x, e, probes, out)
            if e.heals is not None and e.expected != experiments.OK:
                out.healed = probes.wait_for(experiments.OK, ended, e.heals + 10)
                if out.healed is None:
                    out.wrong.append(f"not well again: {server.codes()}")
                elif out.healed > e.heals:
                    out.wrong.append(f"well again after {out.healed:.1f} s instead of {e.heals:g} s")
            if e.event and e.event not in [event["code"] for event in server.events()]:
                out.wrong.append(f"no event {e.event} in the history")
            load.stop()
            out.slowest_ms = 1000 * probes.slowest()
        finally:
            if probes:
                probes.stop()
            if load:
                load.stop(1)
                out.lost, out.altered, out.completed, out.pause = (load.lost, load.altered, load.completed,
                                                                   load.longest_pause)
            server.stop()
        if (out.lost and not e.loses_streams) or out.altered:
            out.wrong.append(f"{out.lost} streams lost, {out.altered} altered ({'; '.join(load.problems[:2])})")
    return out


def fault_free(minutes, source, expected_texts):
    """Mixed load, CPU starvation and stops of a second: every status but 200 is a false alarm."""
    e = experiments.Experiment("-", "fault-free", experiments.OK, 0, lambda x: experiments.nothing)
    server = start(e, source)
    probes = Probes(server.port)
    load = Load(server.port, expected_texts)
    x = experiments.Run(server, source)
    stops = 0
    began = time.monotonic()
    end = began + 60 * minutes
    try:
        while time.monotonic() < end:
            time.sleep(min(15, max(0, end - time.monotonic())))
            if time.monotonic() >= end:
                break
            end_starvation = experiments.busy_loops(x)
            time.sleep(10)
            end_starvation()
            experiments.stop_server(1)(x)
            stops += 1
            time.sleep(1)
        load.stop()
        # Nobody can answer while stopped: what counts is every answer that said 503.
        alarms = sum(1 for p in probes.all for _, status in p.changes if status not in (200, None))
        silent = sum(1 for p in probes.all for _, status in p.changes if status is None)
        return {"minutes": (time.monotonic() - began) / 60, "alarms": alarms, "silent": silent, "stops": stops,
                "probes": sum(p.count for p in probes.all), "slowest_ms": 1000 * probes.slowest(),
                "completed": load.completed, "lost": load.lost, "altered": load.altered,
                "events": [f"{v['component']}: {v['code']}" for v in server.events() if v["uptime_ms"] > 10_000]}
    finally:
        probes.stop()
        server.stop()


def show(statuses):
    return "/".join("-" if s is None else str(s) for s in statuses)


def seconds(value):
    return "" if value is None else f"{value:.2f} s"


def machine():
    model = next((line.split(":", 1)[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())
    return f"{model}, {os.cpu_count()} CPUs"


def table(outcomes, free):
    lines = [f"Measured {datetime.date.today()} on {machine()}, load average {os.getloadavg()[1]:.0f}, demo model, statuses as live/ready/health; the probes "
             "were polled every 20 ms under mixed load (four streams, bursts of eight, long prompts).", ""]
    lines += ["| # | fault | expected | observed | detected after | well again after | streams completed, lost, altered | "
              "slowest probe | verdict |", "|---|---|---|---|---|---|---|---|---|"]
    for o in outcomes:
        e = o.experiment
        title = e.title + (f" ({e.note})" if e.note else "")
        if o.skipped:
            lines.append(f"| {e.number} | {title} | {show(e.expected)} | | | | | | {o.verdict()} |")
            continue
        lines.append(f"| {e.number} | {title} | {show(e.expected)} | {show(o.observed)} | {seconds(o.detected)} | "
                     f"{seconds(o.healed)} | {o.completed}, {o.lost}, {o.altered} | {o.slowest_ms:.0f} ms | {o.verdict()} |")
    if free:
        lines += ["", f"Fault-free: {free['minutes']:.1f} minutes of mixed load with busy loops on every core and "
                  f"{free['stops']} stops of a second: {free['alarms']} false alarms in {free['probes']} probes "
                  f"({free['silent']} times no answer within a second while stopped), slowest answer "
                  f"{free['slowest_ms']:.0f} ms; {free['completed']} streams completed, {free['lost']} lost, "
                  f"{free['altered']} altered."]
        if free["events"]:
            lines += ["Events: " + ", ".join(free["events"]) + "."]
    if not shutil.which("llama-server"):
        lines += ["", "llama-server is not installed on this machine: no comparison."]
    return lines


def write(path, lines):
    text = path.read_text()
    begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    path.write_text(text[:begin] + "\n" + "\n".join(lines) + "\n" + text[end:])


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="truth-table", description=__doc__)
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / "models/demo.gguf")
    parser.add_argument("--only", help="numbers of faults, with commas")
    parser.add_argument("--fault-free-minutes", type=float, default=0.0)
    parser.add_argument("--write", action="store_true", help="replace the table in docs/health.md")
    options = parser.parse_args(arguments)
    chosen = [e for e in experiments.ALL if not options.only or e.number in options.only.split(",")]
    undisturbed = start(experiments.Experiment("-", "", experiments.OK, 0, None), options.model)
    try:
        expected = references(undisturbed.port)
    finally:
        undisturbed.stop()
    outcomes = []
    for e in chosen:
        try:
            outcome = run_one(e, options.model, expected)
        except (OSError, RuntimeError, http.client.HTTPException, subprocess.SubprocessError) as problem:
            outcome = Outcome(e, wrong=[f"the experiment failed: {problem}"])
        outcomes.append(outcome)
        print(f"{e.number:4} {e.title}: expected {show(e.expected)}, observed {show(outcome.observed)}, "
              f"detected {seconds(outcome.detected) or '-'}, healed {seconds(outcome.healed) or '-'}, streams "
              f"{outcome.completed}/{outcome.lost}/{outcome.altered}: {outcome.verdict()}", flush=True)
    free = fault_free(options.fault_free_minutes, options.model, expected) if options.fault_free_minutes else None
    if free:
        print(free)
    lines = table(outcomes, free)
    if options.write:
        write(ROOT / "docs/health.md", lines)
    wrong = [o for o in outcomes if o.wrong]
    print(f"{len(outcomes) - len(wrong)} of {len(outcomes)} as they should be")
    return 1 if wrong or (free and (free["alarms"] or free["lost"] or free["altered"])) else 0


if __name__ == "__main__":
    sys.exit(main())
