"""bitnet-console and a real server: one-shot, JSON, actions, the interactive console."""

import json
import os
import pathlib
import signal
import socket
import stat
import struct
import subprocess
import tempfile
import threading
import unittest

from console_process import CONSOLE, EXIT_DEGRADED, EXIT_OK, EXIT_UNREACHABLE, EXIT_USAGE, ConsoleServer, Terminal, run_console
from server_process import SLOWDOWN, run_server

ACTOR_KEYS = {
    "id": int, "parent": int, "name": str, "age_seconds": (int, float), "incarnation": int, "restarts": int,
    "supervised": bool, "last_error": str, "depth": int, "high_water": int, "enqueued": int, "done": int,
    "rate": (int, float), "busy_percent": (int, float), "handling_p99_ms": (int, float),
    "wait_p50_ms": (int, float), "wait_p99_ms": (int, float), "oldest_wait_ms": (int, float), "now": str,
    "running_ms": (int, float), "thread": int, "suspect": bool,
}  # fmt: skip


class OneShot(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = ConsoleServer("--drain.timeout=2s")
        cls.server.__enter__().wait_ready().wait_console()

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def actors(self):
        return {a["name"]: a for a in self.server.result("ps")["actors"]}

    def test_the_socket_is_for_its_owner(self):
        self.assertEqual(stat.S_IMODE(os.stat(self.server.socket).st_mode), 0o600)

    def test_every_command_that_looks_answers_in_text_and_in_json(self):
        listed = self.server.console("help").stdout
        for command in ["health", "engine", "kv", "streams", "errors", "events", "nodes", "members", "routes",
                        "latency", "config", "version", "top", "ps", "tree", "hung"]:  # fmt: skip
            with self.subTest(command):
                self.assertRegex(listed, rf"(?m)^  {command} ")
                self.assertIn(command, self.server.console("help", command).stdout)
                text = self.server.console(command)
                self.assertEqual(text.returncode, EXIT_OK, text.stdout + text.stderr)
                self.assertIn("HEALTHY", text.stdout.splitlines()[0])
                answer = self.server.ask(command)
                self.assertEqual(answer["schema"], "bitnet.console/1")
                self.assertEqual(answer["command"], command)
                self.assertIs(answer["partial"], False)
                self.assertEqual(answer["node"]["state"], "healthy")
                self.assertIsInstance(answer["result"], dict)

    def test_the_actors_of_the_server_are_there_with_their_families(self):
        actors = self.actors()
        for name in ["router", "aggregator", "supervisor", "model-supervisor", "memory-supervisor", "engine-supervisor", "worker"]:
            self.assertIn(name, actors)
        self.assertEqual(actors["worker"]["parent"], actors["engine-supervisor"]["id"])
        self.assertEqual(actors["engine-supervisor"]["parent"], actors["supervisor"]["id"])
        self.assertTrue(actors["worker"]["supervised"])
        self.assertFalse(actors["router"]["supervised"])
        self.assertGreater(actors["aggregator"]["done"], 0)
        self.assertGreater(actors["aggregator"]["rate"], 1)

    def test_the_schema_of_an_actor_is_what_the_documentation_says(self):
        for actor in self.server.result("ps")["actors"]:
            self.assertEqual(set(actor), set(ACTOR_KEYS))
            for key, kind in ACTOR_KEYS.items():
                self.assertIsInstance(actor[key], kind, key)
        documented = (pathlib.Path(__file__).parents[2] / "docs/console.md").read_text()
        for key in ACTOR_KEYS:
            self.assertIn(f"`{key}`", documented)

    def test_a_stream_shows_while_it_runs_and_can_be_cancelled(self):
        with ConsoleServer("--debug.fault-injection=true") as server:
            server.wait_ready().wait_console()
            # However slowly the console's processes start beside it, the stream does not end by itself.
            slow = server.post("/debug/faults", {"fault": "slow-step", "factor": 1000})
            self.assertEqual(slow.status, 200, slow.body)

            def client():
                for _ in server.stream("/v1/completions", {"prompt": "Once", "max_tokens": 2000, "ignore_eos": True}):
                    pass

            done = threading.Thread(target=client, daemon=True)
            done.start()
            server.wait_until(lambda: server.result("streams")["streams"], 20, "a stream shows")
            stream = server.result("streams")["streams"][0]
            self.assertEqual(stream["kind"], "completion")
            self.assertTrue(stream["streamed"])
            self.assertTrue(stream["answer"].startswith("cmpl-"))
            details = server.result("request", stream["answer"])["request"]
            self.assertEqual(details["request"], stream["request"])
            self.assertIn("completion", {a["name"] for a in server.result("ps")["actors"]})
            cancelled = server.console("--write", "--yes", "cancel", str(stream["request"]))
            self.assertIn(cancelled.returncode, (EXIT_OK, EXIT_DEGRADED), cancelled.stdout + cancelled.stderr)
            done.join(20 * SLOWDOWN)
            self.assertFalse(done.is_alive())
            self.assertEqual(server.result("streams")["streams"], [])

    def test_actions_need_write_and_a_yes_and_leave_a_line_in_the_log(self):
        refused = self.server.console("loglevel", "debug", "--yes")
        self.assertEqual(refused.returncode, EXIT_DEGRADED)
        self.assertIn("--write", refused.stderr)
        refused = self.server.console("--write", "loglevel", "debug")
        self.assertEqual(refused.returncode, EXIT_DEGRADED)
        self.assertIn("--yes", refused.stderr)
        self.assertFalse(any("loglevel" in line for line in self.server.log))
        done = self.server.console("--write", "--yes", "loglevel", "debug")
        self.assertEqual(done.returncode, EXIT_OK, done.stderr)
        audit = f"console: uid {os.getuid()} "
        self.server.wait_until(lambda: any(audit in line and "loglevel debug" in line for line in self.server.log), 10,
                               "the audit line is in the log")  # fmt: skip
        self.assertIn("loglevel debug", self.server.console("events").stdout)
        self.assertEqual(self.server.console("--write", "--yes", "loglevel", "info").returncode, EXIT_OK)

    def test_the_server_itself_refuses_to_act_without_write(self):
        # A console that lies: the request as it would be without --write.
        answer = raw_request(self.server.socket, {"command": "drain", "arguments": []})
        self.assertIn("--write", answer["error"]["message"])
        self.assertEqual(self.server.get("/health/ready").status, 200)

    def test_draining_and_taking_requests_again(self):
        drained = self.server.console("--write", "--yes", "drain")
        self.assertEqual(drained.returncode, EXIT_OK, drained.stderr)
        self.assertEqual(self.server.get("/health/ready").status, 503)
        self.assertEqual(self.server.ask("version")["node"]["state"], "draining")
        self.assertEqual(self.server.console("version").returncode, EXIT_DEGRADED)
        body = {"prompt": "Once", "max_tokens": 2}
        self.assertEqual(self.server.post("/v1/completions", body).status, 503)
        back = self.server.console("--write", "--yes", "undrain")
        self.assertEqual(back.returncode, EXIT_OK, back.stderr)
        self.server.wait_ready()
        self.assertEqual(self.server.post("/v1/completions", body).status, 200)

    def test_a_supervised_actor_restarts_as_the_next_incarnation(self):
        before = self.actors()["memory-supervisor"]
        done = self.server.console("--write", "--yes", "restart", "memory-supervisor")
        self.assertEqual(done.returncode, EXIT_OK, done.stdout + done.stderr)
        self.server.wait_until(lambda: self.actors().get("memory-supervisor", before)["incarnation"] > before["incarnation"],
                               20, "the next incarnation runs")  # fmt: skip
        refused = self.server.console("--write", "--yes", "restart", "router")
        self.assertEqual(refused.returncode, EXIT_DEGRADED)
        self.assertIn("nobody would start router again", refused.stderr)
        self.server.wait_ready()

    def test_settings_show_what_differs(self):
        keys = {s["key"]: s for s in self.server.result("config")["settings"]}
        self.assertEqual(keys["http.port"]["value"], "0")
        self.assertNotIn("log.level", keys)
        everything = {s["key"] for s in self.server.result("config", "--effective")["settings"]}
        self.assertIn("log.level", everything)

    def test_usage_errors_have_their_own_code(self):
        for words in (["nonsense"], ["ps", "--by=depth"], ["--watch=0", "ps"], ["--nonsense"], ["help", "nothing"]):
            with self.subTest(words):
                self.assertEqual(self.server.console(*words).returncode, EXIT_USAGE)

    def test_lines_from_a_pipe_are_commands(self):
        done = self.server.console(stdin="# a comment\nversion\n\nhung\nquit\nnever\n")
        self.assertEqual(done.returncode, EXIT_OK, done.stderr)
        self.assertIn("git sha", done.stdout)
        self.assertIn("no hung", done.stdout)

    def test_watch_goes_on_until_it_is_stopped(self):
        command = [str(CONSOLE), f"--connect={self.server.socket}", "--json", "--watch=0.1", "health"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as console:
            for _ in range(3):
                self.assertEqual(json.loads(console.stdout.readline())["command"], "health")
            console.terminate()

    def test_interactive_console_completes_remembers_and_leaves(self):
        with tempfile.TemporaryDirectory() as home:
            with Terminal(f"--connect={self.server.socket}", home=home) as terminal:
                terminal.expect("help lists the commands")
                terminal.expect("> ")
                terminal.type("vers\t\r")
                terminal.expect("git sha")
                terminal.expect("> ")
                terminal.type("mailbox rou\t\r")
                terminal.expect("high water")
                terminal.expect("> ")
                terminal.type("\x1b[A\r")  # the line before
                terminal.expect("high water")
                terminal.expect("> ")
                terminal.type("top\r")
                terminal.expect("LAST-ERROR")
                terminal.expect("q or Enter ends")
                terminal.type("q")
                terminal.expect("> ")
                terminal.type("quit\r")
                self.assertEqual(terminal.wait(), EXIT_OK)
            history = pathlib.Path(home) / ".bitnet_console_history"
            self.assertIn("mailbox", history.read_text())
            self.assertEqual(stat.S_IMODE(history.stat().st_mode), 0o600)
            with Terminal(f"--connect={self.server.socket}", "--write", home=home) as terminal:
                terminal.expect("# ")
                terminal.type("drain\r")
                terminal.expect("[y/N]")
                terminal.type("n\r")
                terminal.expect("# ")
                terminal.type("quit\r")  # Ctrl-D is lost where it comes before the console reads by the key
                self.assertEqual(terminal.wait(), EXIT_DEGRADED)
            self.assertEqual(self.server.get("/health/ready").status, 200)


def raw_request(path, request: dict) -> dict:
    """A request as a hand-written console would make it."""

    def send(s, o):
        payload = json.dumps(o).encode()
        s.sendall(struct.pack(">I", len(payload)) + payload)

    def receive(s):
        stream = s.makefile("rb")
        (size,) = struct.unpack(">I", stream.read(4))
        return json.loads(stream.read(size))

    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10 * SLOWDOWN)
        s.connect(str(path))
        receive(s)
        send(s, {"protocol": 1})
        send(s, request)
        return receive(s)


class Reaching(unittest.TestCase):
    def test_no_server_is_exit_code_2(self):
        with tempfile.TemporaryDirectory() as directory:
            for where in (f"{directory}/none.sock", "127.0.0.1:1", "nonsense"):
                with self.subTest(where):
                    done = run_console(f"--connect={where}", "ps")
                    self.assertEqual(done.returncode, EXIT_UNREACHABLE)
                    self.assertTrue(done.stderr.startswith("bitnet-console: "))

    def test_a_port_that_speaks_something_else_is_unreachable(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            def answer():
                with listener.accept()[0] as connection:
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    connection.recv(1)
            threading.Thread(target=answer, daemon=True).start()
            done = run_console(f"--connect=127.0.0.1:{listener.getsockname()[1]}", "ps")
        self.assertEqual(done.returncode, EXIT_UNREACHABLE)
        self.assertIn("does not speak the console's protocol", done.stderr)

    def test_the_only_server_of_a_machine_is_found_and_tcp_only_reads(self):
        with tempfile.TemporaryDirectory() as runtime, socket.create_server(("127.0.0.1", 0)) as reserved:
            port = reserved.getsockname()[1]
            reserved.close()
            environment = {"XDG_RUNTIME_DIR": runtime, "RUNTIME_DIRECTORY": ""}
            with ConsoleServer("--console.socket=auto", f"--console.port={port}", environment=environment) as server:
                path = pathlib.Path(runtime) / "bitnet-server" / f"console-{server.port}.sock"
                server.wait_until(path.exists, 30, "the socket is in the runtime directory")
                found = run_console("version", environment=environment)
                if "several servers run here" in found.stderr:  # others of this machine, in /tmp
                    self.assertIn(str(path), found.stderr)
                else:
                    self.assertIn("git sha", found.stdout, found.stderr)
                tcp = server.console("version", connect=f"127.0.0.1:{port}")
                self.assertIn("git sha", tcp.stdout, tcp.stderr)
                refused = server.console("--write", "--yes", "drain", connect=f"127.0.0.1:{port}")
                self.assertEqual(refused.returncode, EXIT_DEGRADED)
                self.assertIn("local socket only", refused.stderr)
            self.assertFalse(path.exists())

    def test_addresses_beyond_this_machine_are_refused(self):
        done = run_server("--console.address=0.0.0.0", "--console.port=9")
        self.assertEqual(done.returncode, 2)
        self.assertIn("console.address", done.stderr)

    def test_two_servers_do_not_share_a_socket(self):
        with ConsoleServer() as server:
            server.wait_console()
            second = run_server(f"--console.socket={server.socket}")
            self.assertEqual(second.returncode, 1)
            self.assertIn("another server listens there", second.stderr)
            self.assertEqual(server.ask("version")["command"], "version")

    def test_a_stopped_server_is_unreachable_within_seconds(self):
        with ConsoleServer() as server:
            server.wait_console()
            server.signal(signal.SIGSTOP)
            try:
                self.assertEqual(server.console("ps").returncode, EXIT_UNREACHABLE)
            finally:
                server.signal(signal.SIGCONT)


class Faults(unittest.TestCase):
    def setUp(self):
        self.server = ConsoleServer("--debug.fault-injection=true").__enter__().wait_ready().wait_console()
        self.addCleanup(self.server.stop)

    def inject(self, fault, **parameters):
        answer = self.server.post("/debug/faults", {"fault": fault, **parameters})
        self.assertEqual(answer.status, 200, answer.body)

    def test_a_hung_actor_shows_with_the_message_it_hangs_in(self):
        self.inject("aggregator-stall", seconds=8 * SLOWDOWN)
        self.server.wait_until(lambda: self.server.result("hung")["hung"], 6, "the hung actor shows")
        (row,) = self.server.result("hung")["hung"]
        self.assertEqual((row["name"], row["now"], row["suspect"]), ("aggregator", "stop", True))
        self.assertRegex(row["why"], r"^in stop for \d+\.\d s on thread \d+ \(sleeping\); \d+ waiting, the first for ")
        text = self.server.console("hung")
        self.assertEqual(text.returncode, EXIT_DEGRADED)
        header, _, titles, line, *rest = text.stdout.splitlines()
        self.assertRegex(header, r"  STUCK  .*  suspects 1$")
        self.assertRegex(titles, r"^ *ID  NAME +WHY$")
        self.assertRegex(line, r"^ *\d+  aggregator  in stop for ")
        self.assertEqual(rest, [])
        self.assertIn("has published nothing for", self.server.console("health", "--why").stdout)
        # What needs the hung actor says so, and does not wait for it.
        drained = self.server.console("--write", "--yes", "drain")
        self.assertEqual(drained.returncode, EXIT_DEGRADED)
        self.assertIn("not confirmed in time", drained.stdout)
        self.server.wait_until(lambda: not self.server.result("hung")["hung"], 12, "it is well again")

    def test_a_crashed_actor_leaves_its_reason_and_a_restart(self):
        self.inject("aggregator-crash")

        def aggregator():
            return next((a for a in self.server.result("ps")["actors"] if a["name"] == "aggregator"), {"restarts": 0})

        self.server.wait_until(lambda: aggregator()["restarts"] == 1, 10, "the next incarnation runs")
        self.assertNotEqual(aggregator()["last_error"], "")
        (failure,) = self.server.result("errors")["failures"]
        self.assertEqual((failure["name"], failure["incarnation"]), ("aggregator", 1))
        self.assertIn("aggregator", self.server.console("errors").stdout)


if __name__ == "__main__":
    unittest.main()
