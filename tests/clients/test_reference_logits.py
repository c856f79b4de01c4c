"""The engine's logits against an independent forward pass in numpy, on the demo model."""

import json
import os
import pathlib
import subprocess
import unittest

import numpy
import reference_forward

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARIES = pathlib.Path(os.environ.get("BITNET_BINARIES", ROOT / "build/release/bin"))
MODEL = ROOT / "models/demo.gguf"
# BOS, text and control tokens, from one position to several.
SEQUENCES = [[2045], [46], [1000], [2045, 2045], [46, 46, 46, 46], [2045, 46, 291], [3, 82, 500, 501], [777, 5],
             [1999, 1998, 1997], [2045, 11, 57, 640], [1234], [2046], [2045, 300], [640, 57, 11], [8, 9, 10, 11]]


def engine_logits(tokens: list[int], head: str) -> numpy.ndarray:
    result = subprocess.run(
        [BINARIES / "bitnet-bench", f"--model={MODEL}", f"--head={head}", "--json",
         "--logits=" + ",".join(map(str, tokens))],
        check=True, capture_output=True, text=True, timeout=120)
    return numpy.array(json.loads(result.stdout)["logits"], dtype=numpy.float64)


class ReferenceLogits(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        file = reference_forward.Gguf(MODEL)
        cls.reference = [reference_forward.Model(file).forward(s).astype(numpy.float64) for s in SEQUENCES]
        cls.spread = numpy.concatenate(cls.reference).std()

    def differences(self, head: str) -> numpy.ndarray:
        """The largest difference in each sequence, in standard deviations of the logits."""
        engine = [engine_logits(tokens, head) for tokens in SEQUENCES]
        for ours, theirs in zip(engine, self.reference):
            self.assertEqual(ours.shape, theirs.shape)
        return numpy.array([numpy.abs(a - b).max() for a, b in zip(engine, self.reference)]) / self.spread

    def test_an_f16_head_agrees_to_float_precision(self):
        differences = self.differences("f16")
        # Float sums differ in their last bits. Where that moves an activation over a rounding border, one of its
        # 8-bit codes changes by one, which then shows in the logits; in most sequences it does not happen.
        self.assertGreater((differences < 1e-4).mean(), 0.6, differences)
        self.assertLess(differences.max(), 0.1, differences)

    def test_an_int8_head_agrees_within_quantisation(self):
        # Each of the 256 terms of a logit is off by at most half a unit of 1/127 of its row's largest, twice.
        self.assertLess(self.differences("int8").max(), 0.1)

    def test_the_comparison_can_fail(self):
        self.assertGreater(numpy.abs(engine_logits([46], "f16") - self.reference[2]).max(), self.spread)


if __name__ == "__main__":
    unittest.main(verbosity=2)
