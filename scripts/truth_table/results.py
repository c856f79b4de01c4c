"""Keeps what was measured, portion by portion, and renders it."""

import dataclasses
import datetime
import json
import os
import pathlib
import platform

from . import experiments
from .process import ROOT
from .run import Outcome

BEGIN = "<!-- truth table: begin -->"
END = "<!-- truth table: end -->"


def machine():
    model = next((line.split(":", 1)[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())
    return f"{model}, {os.cpu_count()} CPUs"


class Results:
    """`path`: a JSON file, read first where it exists."""

    def __init__(self, path):
        self.path = path
        self.data = {"rows": {}, "fault_free": [], "kills": [], "cost": [], "llama": None}
        if path.exists():
            self.data.update(json.loads(path.read_text()))

    def add(self, outcome):
        self.data["rows"][outcome.number] = dataclasses.asdict(outcome)
        self.save()

    def append(self, kind, value):
        self.data[kind].append({**value, "when": str(datetime.date.today())})
        self.save()

    def set(self, kind, value):
        self.data[kind] = value
        self.save()

    def save(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.data, indent=1))

    def outcome(self, number):
        row = self.data["rows"].get(number)
        return Outcome(**row) if row else None


def show(statuses):
    return "/".join("-" if s is None else str(s) for s in statuses)


def seconds(value):
    return "" if value is None else f"{value:.2f} s"


def expectation(e):
    if e.expected != experiments.OK:
        return f"{show(e.expected)} within {e.within:g} s"
    return show(e.expected) + (f", else for at most {e.within:g} s" if e.within else " always")


def table_rows(results):
    llama = results.data["llama"] or {}
    others = " /health of llama-server |" if llama else ""
    yield ("| # | fault | expected | observed | seen after | well again after | streams completed, lost, altered | "
           "longest gap | slowest probe | verdict |" + others)
    yield "|---|---|---|---|---|---|---|---|---|---|" + ("---|" if llama else "")
    for e in experiments.ALL:
        title = e.title + (f" ({e.note})" if e.note else "")
        more = f" {llama.get(e.number, '')} |" if llama else ""
        o = results.outcome(e.number)
        if o is None:
            yield f"| {e.number} | {title} | {expectation(e)} | | | | | | | not run |{more}"
            continue
        seen = seconds(o.detected) + (" ¹" if o.between_probes else "")
        gap = f"{o.pause:.1f} s" if o.completed else ""
        yield (f"| {e.number} | {title} | {expectation(e)} | {show(o.observed)} | {seen} | {seconds(o.healed)} | "
               f"{o.completed}, {o.lost}, {o.altered} | {gap} | {o.slowest_ms:.0f} ms | {o.verdict()} |{more}")


def fault_free_lines(runs):
    if not runs:
        return
    total = {k: sum(r[k] for r in runs) for k in ("minutes", "alarms", "silent", "stops", "probes", "completed", "lost",
                                                  "altered", "restarts")}
    events = [v for r in runs for v in r["events"]]
    yield ""
    yield (f"Fault-free: {total['minutes']:.1f} minutes (runs: {len(runs)}) of mixed load, with two busy loops a core "
           f"for ten of every thirty seconds and {total['stops']} stops of a second: {total['alarms']} false alarms in "
           f"{total['probes']} probes ({total['silent']} times no answer within a second while stopped); "
           f"{total['completed']} streams completed, {total['lost']} lost, {total['altered']} altered; "
           f"{total['restarts']} engines replaced.")
    if events:
        yield "Events: " + "; ".join(events) + "."


def kill_lines(runs):
    for r in runs:
        what = {"kill": "`kill -9`", "stop": "`kill -STOP`"}[r["how"]]
        yield ""
        yield (f"{r['kills']} times {what} of the engine, one after another, with four streams running: "
               f"{r['completed']} streams completed, {r['lost']} lost, {r['altered']} altered, {r['resumed']} resumptions. "
               f"Ready again after {1000 * r['recovery_median']:.0f} ms (median, at most "
               f"{1000 * r['recovery_max']:.0f} ms); longest gap in a stream {r['gap_max']:.2f} s.")


def cost_lines(runs):
    for r in runs:
        low, high = r["interval"]
        yield ""
        yield (f"What watching costs: {r['pairs']} pairs of runs of about {r['seconds']:g} s, four sequences at once on the "
               f"model {r['model']}, with all checks and with none (`debug.unwatched`): {r['tokens_per_second']:.0f} tokens/s, "
               f"{100 * r['median']:.1f} % of those without (median; between {100 * low:.1f} and {100 * high:.1f} % with 95 % "
               "confidence).")


def page(results):
    rows = [o for e in experiments.ALL if (o := results.outcome(e.number))]
    days = sorted({o.when for o in rows})
    lines = [f"Measured {' to '.join(sorted({days[0], days[-1]})) if days else ''} on {machine()}, demo model, statuses as "
             "live/ready/health. The probes were polled every 20 ms, under mixed load (four streams, bursts of eight, long "
             "prompts) unless the fault needs an idle server. \"Well again\" counts from the fault where the server heals "
             "itself, else from the fault's end.", ""]
    lines += table_rows(results)
    if any(o.between_probes for o in rows):
        lines += ["", "¹ Over before the next probe came, 20 ms later: the time is that of the transition in "
                  "`/health/events`."]
    right = sum(not o.wrong for o in rows)
    kinds = {"".join(c for c in o.number if c.isdigit()) for o in rows} - {""}
    lines += ["", f"{right} of {len(rows)} rows are as they should be. Of the 36 faults that the server is to tell apart they "
              f"show {len(kinds)}; the others are below."]
    lines += fault_free_lines(results.data["fault_free"])
    lines += kill_lines(results.data["kills"])
    lines += cost_lines(results.data["cost"])
    lines += ["", "Not in the table:", ""]
    lines += [f"- {number}, {what}: {why}." for number, what, why in experiments.NOT_HERE]
    lines.append("")
    if results.data["llama"]:
        lines.append(f"llama-server ({results.data['llama']['version']}) with a small model of random weights, under the same "
                     "load, for the faults that can be caused from outside. Its /health is the only endpoint it has; "
                     "\"no answer\" means none within a second. Row 1 stops its computing thread with ptrace, rows 1b, 2 and "
                     "2b hit its one process.")
    else:
        lines.append("llama-server is not installed on this machine: no comparison.")
    return lines


def write_page(results, path=ROOT / "docs/health.md"):
    text = path.read_text()
    begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    path.write_text(text[:begin] + "\n" + "\n".join(page(results)) + "\n" + text[end:])
