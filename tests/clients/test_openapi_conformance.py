"""schemathesis makes requests up from /openapi.json, good and bad ones: no answer is a server error, and every
answer is one that the document describes."""

import os
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest

import openai
from server_process import Server

SEED = "20241"
EXAMPLES = "25"


class OpenapiConformance(unittest.TestCase):
    def check(self, server, *more):
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="any")
        deadline = time.monotonic() + 30
        while not client.models.list().data and time.monotonic() < deadline:
            time.sleep(0.05)
        # Probes may say 503 before the start-up grace is over, which is no fault of theirs.
        while client.get(f"http://127.0.0.1:{server.port}/health/live",
                         cast_to=dict, options={"max_retries": 20})["status"] != "healthy":
            time.sleep(0.2)
        with tempfile.TemporaryDirectory() as folder:
            checked = subprocess.run(
                [str(pathlib.Path(sys.executable).with_name("schemathesis")), "run",
                 f"http://127.0.0.1:{server.port}/openapi.json",
                 "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,"
                             "response_headers_conformance,response_schema_conformance,unsupported_method",
                 "--phases", "examples,coverage,fuzzing", "--max-examples", EXAMPLES, "--seed", SEED,
                 "--generation-database", "none", "--request-timeout", "20", "--no-color", "--workers", "2", *more],
                cwd=folder, env={**os.environ, "PYTHONPATH": ""}, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True, timeout=240, check=False)
        self.assertIsNone(server.process.poll(), "the server has ended")
        self.assertEqual(checked.returncode, 0, checked.stdout[-6000:])
        self.assertIn("passed", checked.stdout)
        print(checked.stdout[-600:])

    def test_answers_are_as_described(self):
        with Server() as server:
            self.check(server)

    def test_loads_are_answered_as_described(self):
        # Not all at once: where models can be changed, the made-up requests find the model's name and unload it.
        with tempfile.TemporaryDirectory() as models, Server(f"--models.directories=[{models}]") as server:
            self.check(server, "--include-path", "/v1/models/load")
            self.assertEqual(server.get("/health/ready").status, 200)


if __name__ == "__main__":
    unittest.main()
