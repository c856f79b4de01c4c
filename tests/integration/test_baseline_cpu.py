"""Older CPUs, emulated by QEMU: no illegal instruction, the same numbers."""

import os
import pathlib
import shutil
import subprocess
import unittest

BINARIES = pathlib.Path(os.environ["BITNET_BINARIES"])
MODEL = pathlib.Path(__file__).resolve().parents[2] / "models/demo.gguf"
QEMU = shutil.which("qemu-x86_64")


def run(*command, cpu=None):
    prefix = [QEMU, "-cpu", cpu] if cpu else []
    return subprocess.run([*prefix, *command], capture_output=True, text=True, timeout=300, check=False)


@unittest.skipUnless(QEMU, "qemu-x86_64 (Debian: qemu-user) is not installed")
class BaselineCpu(unittest.TestCase):
    def check_logits(self, cpu, kernels):
        command = [BINARIES / "bitnet-bench", f"--model={MODEL}", "--threads=2", "--logits=1,50,300,7,12"]
        here = run(*command)
        there = run(*command, cpu=cpu)
        self.assertEqual(here.returncode, 0, here.stderr)
        self.assertEqual(there.returncode, 0, there.stderr)
        self.assertGreater(len(here.stdout), 1000)
        self.assertEqual(here.stdout, there.stdout)
        self.assertIn(kernels, run(BINARIES / "bitnet-bench", "--help", cpu=cpu).stdout)

    def test_a_cpu_with_avx2_gives_the_same_logits(self):
        self.check_logits("Haswell", "scalar, avx2 (the last)")

    def test_a_cpu_without_avx_gives_the_same_logits(self):
        self.check_logits("Nehalem", "scalar (the last)")

    def test_the_kernels_of_a_cpu_with_avx2_are_exact(self):
        for suite, tests in (("kernels_matmul_tests", "matmul_native/rows*,ternary_products_are_exact_for_extreme*"),
                             ("kernels_vector_tests", "vector_instruction_sets,attention_reference")):
            with self.subTest(suite=suite):
                done = run(BINARIES / suite, f"--run_test={tests}", cpu="Haswell")
                self.assertEqual(done.returncode, 0, done.stdout[-2000:] + done.stderr[-2000:])

    def test_kernels_that_the_cpu_lacks_are_refused_by_name(self):
        done = run(BINARIES / "bitnet-bench", f"--model={MODEL}", "--kernels=avx512_vnni", cpu="Haswell")
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("this machine runs scalar, avx2", done.stderr)


if __name__ == "__main__":
    unittest.main()
