"""The same faults in llama-server (llama.cpp), as far as they can be caused from outside: what does its one health
endpoint say? Nothing is told apart there, so that only /health is compared with what ours must say."""

import contextlib
import ctypes
import http.client
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from . import experiments, faults
from .load import Load
from .probes import Prober
from .process import BINARIES, free_port

PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH = 0x4206, 0x4207, 17


def hang_main_thread(x):
    """Stops the thread that computes and no other, as a hung computation would."""
    libc = ctypes.CDLL(None, use_errno=True)

    def ptrace(request):
        if libc.ptrace(request, x.server.process.pid, None, None) != 0:
            raise OSError(ctypes.get_errno(), "ptrace failed")
    ptrace(PTRACE_SEIZE)
    ptrace(PTRACE_INTERRUPT)

    def release():
        with contextlib.suppress(OSError):
            ptrace(PTRACE_DETACH)
    return release


def signal_server(number):
    def cause(x):
        x.now()
        x.server.signal(number)
        return faults.nothing
    return cause


CAUSES = {
    "1": hang_main_thread,
    "1b": signal_server(signal.SIGSTOP),
    "2": signal_server(signal.SIGKILL),
    "2b": signal_server(signal.SIGSEGV),
    "6": faults.many_connections(300),
    "6b": faults.many_connections(4000, request=b""),
    "13": faults.model_file(faults.truncate),
    "14": faults.model_file(faults.replace),
    "14b": faults.move_away,
    "14c": faults.model_file(faults.write_to),
    "31": faults.stop_server(1),
    "31b": faults.stop_server(5),
    "34": faults.drain,
    "-": faults.busy_loops,
}


class LlamaServer:
    """llama-server on a free port, with as many slots as the load has streams and short requests."""

    def __init__(self, command, model):
        self.port = free_port()
        self.process = subprocess.Popen(
            [command, "-m", str(model), "--host", "127.0.0.1", "--port", str(self.port), "-np", "12", "-c", "24576",
             "-t", str(os.cpu_count() or 2)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while self.health() != 200:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError("llama-server did not become healthy")
            time.sleep(0.1)

    def health(self):
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1)
            with contextlib.closing(connection):
                connection.request("GET", "/health")
                return connection.getresponse().status
        return None

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class AnyText:
    """Its texts are not compared: they may depend on what runs beside them."""

    def __getitem__(self, variant):
        return self

    def __ne__(self, other):
        return False

    __hash__ = None


def make_model(folder):
    """A small model of random weights that both servers could read: its answers do not matter here."""
    path = folder / "llama.gguf"
    subprocess.run([BINARIES / "bitnet-make-synthetic-model", f"--output={path}", "--shape=large", "--weights=tq2_0",
                    "--architecture=bitnet", "--blocks=2", "--vocabulary=4096"], check=True)
    return path


def said(status):
    return "no answer" if status is None else str(status)


def describe(e, x, prober, load, ended):
    """A cell of the table."""
    seen = [(at, status) for at, status in prober.changes if at >= x.since]
    unwell = [at for at, status in seen if status != 200]
    code = x.server.process.poll()
    died = f", the process ended by signal {-code}" if code is not None and code < 0 else ""
    lost = f", {load.lost} requests lost" if load.lost else ""
    if e.expected == experiments.OK:
        silent = prober.seconds_not(200, x.since, ended)
        if silent <= e.within and not died:
            return f"200{lost}"
        return f"false alarm: {said(next(s for _, s in seen if s != 200))} for {silent:.1f} s{died}{lost}"
    if not unwell:
        return f"not seen, 200 all the time{died}{lost}"
    after = unwell[0] - x.since
    first = next(status for at, status in seen if status != 200)
    late = "late: " if after > e.within else ""
    stays = ", and so it stays" if e.heals is not None and prober.status() != 200 else ""
    return f"{late}{said(first)} after {after:.2f} s{died}{stays}{lost}"


def run_one(e, command):
    with tempfile.TemporaryDirectory(prefix="truth-table-") as name:
        folder = pathlib.Path(name)
        model = make_model(folder)
        server = prober = load = None
        try:
            server = LlamaServer(command, model)
            prober = Prober(server.port, "/health", fresh=True)
            load = Load(server.port, AnyText())
            time.sleep(max(e.warm_up, 3))
            x = experiments.Run(server, model, folder)
            x.now()
            end_fault = CAUSES[e.number](x)
            # As long as ours may take to see it, or to be well again where it heals itself.
            time.sleep(max(e.within, e.lasts, 0 if e.heals is None or e.lasts else e.heals) + 2)
            ended = time.monotonic()
            end_fault()
            if e.heals is not None and e.lasts:
                time.sleep(e.heals)
            load.stop(0 if server.process.poll() is not None else 15)
            return describe(e, x, prober, load, ended)
        finally:
            if load:
                load.stop(0)
            if prober:
                prober.stop()
            if server:
                server.stop()


def compare(command, chosen):
    """{number of the fault: what llama-server said}, of those that can be caused in it."""
    if not shutil.which(command):
        sys.exit(f"truth-table: {command} is not there or cannot be run; --llama-server names it")
    cells = {}
    for e in chosen:
        if e.number in CAUSES:
            cells[e.number] = run_one(e, command)
            print(f"{e.number:4} {e.title}: llama-server: {cells[e.number]}", flush=True)
    return cells


def version(command):
    out = subprocess.run([command, "--version"], capture_output=True, text=True, check=False)
    lines = [line for line in (out.stdout + out.stderr).splitlines() if line.startswith("version")]
    return lines[0].removeprefix("version: ") if lines else "unknown version"
