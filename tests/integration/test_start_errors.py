"""Bad options and bad model files: one clear sentence, an exit code that is not 0, no crash."""

import pathlib
import socket
import tempfile
import unittest

from server_process import DEMO_MODEL, run_server


class StartErrors(unittest.TestCase):
    def refuse(self, *options, code=None, says=(), **kwargs):
        result = run_server(*options, **kwargs)
        self.assertGreater(result.returncode, 0, f"ended by a signal or succeeded: {result}")
        if code is not None:
            self.assertEqual(result.returncode, code, result.stderr)
        for part in says:
            self.assertIn(part, result.stderr)
        return result

    def refuse_file(self, content: bytes, *says: str):
        with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
            file.write(content)
            file.flush()
            self.refuse(model=file.name, says=(pathlib.Path(file.name).name, *says))

    def test_an_unknown_option_names_itself(self):
        result = self.refuse("--http.prot=1", code=2, says=("http.prot", "http.port"))
        self.assertEqual(result.stderr.count("\n"), 1)
        self.assertEqual(result.stdout, "")

    def test_a_wrong_type_and_a_value_out_of_range_name_the_key(self):
        self.refuse("--http.port=http", code=2, says=("http.port",))
        self.refuse("--http.threads=0", code=2, says=("http.threads",))
        self.refuse(code=2, says=("BITNET_HTTP_PORT",), environment={"BITNET_HTTP_PORT": "99999"})

    def test_no_model_says_how_to_name_one(self):
        self.refuse(model=None, code=2, says=("--model",))

    def test_a_missing_model_file_is_named(self):
        self.refuse(model="/nonexistent/model.gguf", says=("/nonexistent/model.gguf",))

    def test_a_directory_is_not_a_model(self):
        self.refuse(model="/tmp", says=("/tmp",))

    def test_foreign_and_empty_files_are_refused(self):
        self.refuse_file(b"")
        self.refuse_file(b"PK\x03\x04" + bytes(4096), "GGUF")

    def test_a_truncated_model_is_refused_at_every_size(self):
        content = DEMO_MODEL.read_bytes()
        for size in (4, 24, 100, 10_000, len(content) // 2, len(content) - 33):
            with self.subTest(size=size):
                self.refuse_file(content[:size])

    def test_an_unsupported_architecture_is_named(self):
        content = DEMO_MODEL.read_bytes().replace(b"bitnet-b1.58", b"mamba-b01.58")
        self.refuse_file(content, "mamba-b01.58")

    def test_an_unsupported_tensor_type_is_named_with_what_to_do(self):
        content = bytearray(DEMO_MODEL.read_bytes())
        name = b"blk.0.attn_q.weight"
        # After the name: the number of dimensions (4 bytes), two dimensions (8 each), the type (4).
        position = content.index(name) + len(name) + 4 + 16
        self.assertEqual(int.from_bytes(content[position:position + 4], "little"), 36)
        content[position:position + 4] = (38).to_bytes(4, "little")
        self.refuse_file(bytes(content), "blk.0.attn_q.weight", "TL1", "I2_S")

    def test_an_implausible_count_is_refused(self):
        # magic, version 3, 2^63 tensors, 2^63 keys
        self.refuse_file(b"GGUF" + (3).to_bytes(4, "little") + (2**63).to_bytes(8, "little") * 2)

    def test_a_taken_port_is_named(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            self.refuse(f"--http.port={port}", says=(str(port),))

    def test_an_address_of_another_machine_is_named(self):
        self.refuse("--http.address=192.0.2.1", says=("192.0.2.1",))

    def test_an_unsupported_instruction_set_is_named(self):
        # No machine has every one; where this one has AMX there is nothing to refuse.
        flags = pathlib.Path("/proc/cpuinfo").read_text()
        if "amx_int8" in flags:
            self.skipTest("this machine supports every instruction set")
        self.refuse("--engine.kernels=amx_int8", says=("engine.kernels", "amx_int8"))

    def test_help_version_and_dump_config_need_no_model(self):
        for option in ("--help", "--version", "--dump-config"):
            result = run_server(option, model=None)
            self.assertEqual(result.returncode, 0, option)
            self.assertTrue(result.stdout, option)


if __name__ == "__main__":
    unittest.main(verbosity=2)
