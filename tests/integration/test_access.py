"""Who may call a real server, over which transport, and what it counts."""

import pathlib
import shutil
import signal
import ssl
import subprocess
import tempfile
import unittest
import http.client

from server_process import Server

KEY = "alice-key-0123456789"
ADMIN = "root-key-0123456789abc"


def bearer(key):
    return {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}


def make_certificate(folder: pathlib.Path, name: str):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True)


class Access(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def test_keys_guard_the_api_but_not_the_probes_and_are_read_again(self):
        keys = self.folder / "keys"
        keys.write_text(f"alice {KEY}\n")
        with Server("--health.startup-grace=0s", f"--access.key-file={keys}") as server:
            server.wait_ready()
            ask = {"prompt": "Once", "max_tokens": 2}
            self.assertEqual(server.post("/v1/completions", ask).status, 401)
            answer = server.request("POST", "/v1/completions", ask, bearer(KEY))
            self.assertEqual(answer.status, 200, answer.body)
            self.assertEqual(server.request("GET", "/v1/models", headers=bearer("wrong-key-0123456789")).status, 401)
            for path in ("/health", "/health/live", "/health/ready", "/metrics", "/openapi.json"):
                self.assertEqual(server.get(path).status, 200, path)

            keys.write_text("alice short\n")
            server.signal(signal.SIGHUP)
            server.wait_until(lambda: server.get("/health/ready").status == 503, 10, "a bad key file shows in health")
            self.assertEqual(server.get("/health/live").status, 200)
            self.assertEqual(server.request("GET", "/v1/models", headers=bearer(KEY)).status, 200)
            message = server.get("/health").json()["components"]["access"]["message"]
            self.assertIn("line 1", message)

            keys.write_text(f"bob {ADMIN}\n")
            server.signal(signal.SIGHUP)
            server.wait_until(lambda: server.get("/health/ready").status == 200, 10, "a good key file heals it")
            self.assertEqual(server.request("GET", "/v1/models", headers=bearer(KEY)).status, 401)
            self.assertEqual(server.request("GET", "/v1/models", headers=bearer(ADMIN)).status, 200)

    @unittest.skipUnless(shutil.which("openssl"), "openssl is not installed")
    def test_https_serves_probes_and_streams_and_takes_a_new_certificate(self):
        make_certificate(self.folder, "first")
        options = (f"--http.tls-certificate={self.folder}/cert.pem", f"--http.tls-key={self.folder}/key.pem",
                   "--health.startup-grace=0s")

        def ask(server, method, path, body=None):
            context = ssl.create_default_context(cafile=str(self.folder / "cert.pem"))
            connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=context, timeout=20)
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            body = response.read()
            connection.close()
            return response.status, body

        with Server(*options) as server:
            server.wait_until(lambda: ask(server, "GET", "/health/ready")[0] == 200, 30, "ready over TLS")
            status, body = ask(server, "POST", "/v1/completions", '{"prompt":"Once","max_tokens":20,"stream":true}')
            self.assertEqual(status, 200)
            self.assertIn(b"data: [DONE]", body)
            status, body = ask(server, "POST", "/tokenize", '{"prompt":"' + "word " * 100_000 + '"}')
            self.assertEqual(status, 200)
            self.assertGreater(len(body), 200_000)

            good = (self.folder / "key.pem").read_text()
            (self.folder / "key.pem").write_text("no key")
            server.signal(signal.SIGHUP)
            server.wait_until(lambda: ask(server, "GET", "/health/ready")[0] == 503, 10, "a bad key shows in health")
            (self.folder / "key.pem").write_text(good)
            make_certificate(self.folder, "second")
            server.signal(signal.SIGHUP)

            def healed():
                try:
                    return ask(server, "GET", "/health/ready")[0] == 200
                except ssl.SSLError:
                    return False  # still the first certificate

            server.wait_until(healed, 10, "the second certificate is in force")

    def test_a_key_has_its_rate(self):
        with Server("--access.requests-per-minute=2", environment={"BITNET_ACCESS_KEYS": f"alice:{KEY}"}) as server:
            server.wait_until(lambda: server.get("/health/live").status == 200, 30, "live")
            codes = [server.request("GET", "/v1/models", headers=bearer(KEY)) for _ in range(3)]
            self.assertEqual([c.status for c in codes], [200, 200, 429])
            self.assertGreaterEqual(int(codes[2].headers["retry-after"]), 1)

    def test_a_request_leaves_figures_and_one_line(self):
        with Server("--health.startup-grace=0s") as server:
            server.wait_ready()
            server.request("POST", "/v1/completions", {"prompt": "Once upon", "max_tokens": 5, "ignore_eos": True},
                           {"Content-Type": "application/json", "x-request-id": "my-id-1"})
            server.wait_until(
                lambda: b"bitnet_e2e_request_latency_seconds_count 1" in server.get("/metrics").body, 5, "counted")
            text = server.get("/metrics").body.decode()
            for expected in ("bitnet_time_to_first_token_seconds_count 1", "bitnet_inter_token_latency_seconds_count 4",
                             "bitnet_request_generation_tokens_sum 5", "bitnet_http_requests_total "):
                self.assertIn(expected, text)
            lines = [line for line in server.log if "my-id-1" in line]
            self.assertEqual(len(lines), 1)
            self.assertRegex(lines[0], r"POST /v1/completions 200 .* tokens \d\+5 first")
            if promtool := shutil.which("promtool"):
                checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True)
                self.assertEqual((checked.returncode, checked.stdout + checked.stderr), (0, ""))


if __name__ == "__main__":
    unittest.main()
