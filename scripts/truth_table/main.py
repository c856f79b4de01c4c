"""Causes every fault that it can in a real server under load, and compares what the health endpoints say with what
is true. Results are kept, so that the experiments can be run in portions."""

import argparse
import http.client
import pathlib
import subprocess
import sys

from . import experiments, llama
from .cost import cost
from .fault_free import fault_free
from .kills import SIGNALS, kill_engines
from .load import references
from .process import ROOT
from .results import Results, seconds, show, write_page
from .run import Outcome, run_one, start


def parse(arguments):
    parser = argparse.ArgumentParser(prog="truth-table", description=__doc__)
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / "models/demo.gguf")
    parser.add_argument("--list", action="store_true", help="list the experiments and end")
    parser.add_argument("--only", help="numbers of faults, with commas; default: all but those that take minutes")
    parser.add_argument("--no-faults", action="store_true", help="only what else is asked for")
    parser.add_argument("--fault-free-minutes", type=float, default=0.0, help="look for false alarms so long")
    parser.add_argument("--kills", type=int, default=0, help="kill so many engines in a row in mid-stream")
    parser.add_argument("--kill-by", choices=[*SIGNALS], default="kill", help="how: SIGKILL or SIGSTOP")
    parser.add_argument("--cost-pairs", type=int, default=0, help="so many pairs of runs with and without all checks")
    parser.add_argument("--cost-seconds", type=float, default=10.0, help="of each run")
    parser.add_argument("--llama-server", metavar="COMMAND", help="cause the same faults in llama.cpp's server, too")
    parser.add_argument("--results", type=pathlib.Path, default=ROOT / "build/truth-table.json",
                        help="file that keeps the results of all runs")
    parser.add_argument("--write", action="store_true", help="render all kept results into docs/health.md")
    return parser.parse_args(arguments)


def choose(options):
    if options.no_faults:
        return []
    if not options.only:
        return [e for e in experiments.ALL if not e.slow]
    wanted = options.only.split(",")
    if unknown := set(wanted) - {e.number for e in experiments.ALL}:
        sys.exit(f"truth-table: no such experiment: {', '.join(sorted(unknown))}; --list shows them")
    return [e for e in experiments.ALL if e.number in wanted]


def run_experiment(e, model, expected):
    try:
        return run_one(e, model, expected)
    except (OSError, RuntimeError, ValueError, KeyError, http.client.HTTPException,
            subprocess.SubprocessError) as problem:
        return Outcome(e.number, wrong=[f"the experiment failed: {problem!r}"])


def main(arguments=None):
    options = parse(arguments)
    if options.list:
        for e in experiments.ALL:
            print(f"{e.number:4} {show(e.expected)} {e.title}")
        return 0
    results = Results(options.results)
    chosen = choose(options)
    expected = {}
    if chosen or options.kills or options.fault_free_minutes:
        undisturbed = start(experiments.Experiment("-", "", experiments.OK, 0, None), options.model)
        try:
            expected = references(undisturbed.port)
        finally:
            undisturbed.stop()
    good = True
    for e in chosen:
        o = run_experiment(e, options.model, expected)
        results.add(o)
        good = good and not o.wrong
        print(f"{e.number:4} {e.title}: expected {show(e.expected)}, observed {show(o.observed)}, seen after "
              f"{seconds(o.detected) or '-'}{' (history)' if o.between_probes else ''}, well after "
              f"{seconds(o.healed) or '-'}, streams {o.completed}/{o.lost}/{o.altered}, gap {o.pause:.1f} s, probes "
              f"{o.slowest_ms:.0f} ms: {o.verdict()}", flush=True)
    if options.llama_server:
        cells = llama.compare(options.llama_server, chosen or experiments.ALL)
        results.set("llama", {**(results.data["llama"] or {}), **cells, "version": llama.version(options.llama_server)})
    if options.fault_free_minutes:
        free = fault_free(options.fault_free_minutes, options.model, expected)
        results.append("fault_free", free)
        print(free, flush=True)
        good = good and not (free["alarms"] or free["lost"] or free["altered"])
    if options.kills:
        killed = kill_engines(options.kills, options.kill_by, options.model, expected)
        results.append("kills", killed)
        print(killed, flush=True)
        good = good and not (killed["lost"] or killed["altered"])
    if options.cost_pairs:
        measured = cost(options.cost_pairs, options.cost_seconds, options.model)
        results.append("cost", measured)
        print(measured, flush=True)
    if options.write:
        write_page(results)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
