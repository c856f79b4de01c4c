"""How each fault is caused. A cause takes the Run, breaks the server, and returns what ends the fault."""

import contextlib
import itertools
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import threading
import time


def nothing():
    pass


def injected(fault, **parameters):
    def cause(x):
        x.server.inject(fault, **parameters)
        return nothing
    return cause


def signal_process(which, number):
    """`which`: "engine" or "loader"."""
    def cause(x):
        pid = x.server.processes()[which]
        if not pid:
            raise RuntimeError(f"there is no process of the {which}")
        x.now()
        os.kill(pid, number)
        return nothing
    return cause


def kill_every_engine(x):
    """Kills each engine as soon as it is seen, so that hardly one proves itself."""
    stop = threading.Event()

    def hunt():
        while not stop.is_set():
            with contextlib.suppress(OSError, ValueError):
                for pid in map(int, children.read_text().split()):
                    os.kill(pid, signal.SIGKILL)
            stop.wait(0.001)
    loader = x.server.processes()["loader"]
    children = pathlib.Path(f"/proc/{loader}/task/{loader}/children")
    threading.Thread(target=hunt, daemon=True).start()
    return stop.set


def flip_at_source(x):
    x.server.inject("loader-bit-flip", offset=100)
    before = x.server.processes()["engine"]
    os.kill(before, signal.SIGKILL)
    while x.server.processes()["engine"] in (0, before):
        time.sleep(0.005)
    x.server.wait_ready(5)  # this one has them, and nobody knows yet
    time.sleep(0.3)
    x.now()
    return nothing


def lose_every_block(x):
    """Blocks that are in use get lost when they are given back: until none is, for half a second."""
    in_vain = 0
    while in_vain < 25:
        in_vain = in_vain + 1 if "lost 0 " in str(x.server.inject("kv-leak")) else 0
        time.sleep(0.02)
    x.now()
    return nothing


def stop_server(seconds):
    def cause(x):
        x.server.signal(signal.SIGSTOP)
        time.sleep(seconds)
        x.now()
        x.server.signal(signal.SIGCONT)
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


def missing_at_reload(x):
    restore = move_away(x)
    signal_process("loader", signal.SIGKILL)(x)
    return restore


def truncated_at_reload(x):
    kept = x.model.with_suffix(".kept")
    shutil.copy(x.model, kept)
    truncate(x.model)
    signal_process("loader", signal.SIGKILL)(x)
    return lambda: os.replace(kept, x.model)


MEMORY_CGROUPS = pathlib.Path("/sys/fs/cgroup/memory")


def memory_cgroup(mib):
    """Runs the server in a cgroup of its own with this limit (version 1, as root)."""
    def prefix(folder):
        group = MEMORY_CGROUPS / folder.name
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(mib << 20))
        return ("sh", "-c", f'echo $$ > {group}/tasks && exec "$@"', "sh")
    return prefix


def remove_cgroup(folder):
    group = MEMORY_CGROUPS / folder.name
    for _ in range(100):
        if not group.exists():
            return
        with contextlib.suppress(OSError):
            group.rmdir()
        time.sleep(0.05)


def out_of_memory(x):
    """Another process of the cgroup takes what is left; the engine is what the kernel is told to prefer."""
    engine = x.server.processes()["engine"]
    pathlib.Path(f"/proc/{engine}/oom_score_adj").write_text("1000")
    group = MEMORY_CGROUPS / x.folder.name
    take = "import time\nheld = []\nfor _ in range(200):\n  held.append(bytearray(1 << 20)); time.sleep(0.01)"
    hog = subprocess.Popen(["sh", "-c", f'echo $$ > {group}/tasks && exec python3 -c "$0"', take])
    deadline = time.monotonic() + 20
    while pathlib.Path(f"/proc/{engine}").exists():
        if time.monotonic() > deadline:
            raise RuntimeError("the kernel killed nobody")
        time.sleep(0.002)
    x.now()
    hog.kill()
    hog.wait()
    return nothing


def fill_memory(percent):
    """Takes memory until so much of the cgroup's limit is in use as /metrics counts it."""
    def cause(x):
        limit = x.server.metric("bitnet_memory_limit_bytes")
        used = x.server.metric("bitnet_memory_used_bytes")
        x.server.inject("memory-pressure", mib=int((limit * percent / 100 - used) / 2**20), seconds=5)
        x.now()  # taking it takes a while itself

        def end():
            time.sleep(max(0.0, x.since + 5 - time.monotonic()))
        return end
    return cause


def fill_queue(x):
    stop = threading.Event()

    def client():
        while not stop.is_set():
            with contextlib.suppress(Exception):
                x.server.request("POST", "/v1/completions", {"prompt": "Once", "max_tokens": 400, "ignore_eos": True})
            stop.wait(0.02)
    for _ in range(12):
        threading.Thread(target=client, daemon=True).start()
    deadline = time.monotonic() + 10
    while x.server.metric("bitnet_num_requests_waiting") < 4:
        if time.monotonic() > deadline:
            raise RuntimeError("the queue did not fill up")
    x.now()
    return stop.set


def failing_computations(x):
    """One client after another; each fifth one meets a step whose logits are not numbers."""
    stop = threading.Event()

    def client():
        for i in itertools.count():
            if stop.is_set():
                return
            with contextlib.suppress(Exception):
                if i % 5 == 0:
                    x.server.inject("nan")
                x.server.request("POST", "/v1/completions", {"prompt": "Once", "max_tokens": 4})
            stop.wait(0.05)
    threading.Thread(target=client, daemon=True).start()
    return stop.set


def slow_client(x):
    """Asks for long streams and never reads them."""
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    s.connect(("127.0.0.1", x.server.port))
    body = b'{"prompt":"Once","max_tokens":400,"n":48,"ignore_eos":true,"stream":true,"logprobs":5}'
    s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
              % (len(body), body))

    def check():
        s.settimeout(10)
        got = b""
        try:
            while b"[DONE]" not in got[-100:] and (data := s.recv(65536)):
                got += data
        except ConnectionResetError:
            pass
        finally:
            s.close()
        if b"[DONE]" in got or not got.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"the stream was not cut off, after {len(got)} bytes")
    return check


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


def many_connections(count, request=b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n"):
    """Connections that send this and never go on."""
    def cause(x):
        held = []
        for _ in range(count):
            s = socket.create_connection(("127.0.0.1", x.server.port))
            held.append(s)
            with contextlib.suppress(OSError):
                s.sendall(request)

        def release():
            for s in held:
                s.close()
        return release
    return cause


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


def with_keys(folder):
    (folder / "keys").write_text("tester 0123456789abcdef0123\n")
    return (f"--access.key-file={folder / 'keys'}",)


def break_keys(x):
    file = x.folder / "keys"
    good = file.read_text()
    file.write_text("tester short\n")
    x.server.signal(signal.SIGHUP)

    def restore():
        file.write_text(good)
        x.server.signal(signal.SIGHUP)
    return restore
