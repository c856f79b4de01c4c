"""What watching costs: throughput of paired runs with and without it."""

import json
import math
import statistics
import threading
import time

from . import experiments, faults
from .run import start

CLIENTS = 4
TOKENS = 400


def work(server, requests):
    """Tokens a second of some clients that each ask so often for a whole answer."""
    failures = []

    def client(number):
        body = {"prompt": "Once upon a time", "max_tokens": TOKENS, "temperature": 0.8, "seed": number,
                "ignore_eos": True}
        for _ in range(requests):
            status, answer = server.request("POST", "/v1/completions", body)
            if status != 200 or json.loads(answer)["usage"]["completion_tokens"] != TOKENS:
                failures.append(answer)
    threads = [threading.Thread(target=client, args=(i,)) for i in range(CLIENTS)]
    began = time.monotonic()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if failures:
        raise RuntimeError(f"a request failed: {failures[0][:200]}")
    return CLIENTS * requests * TOKENS / (time.monotonic() - began)


def throughput(source, requests, watched):
    e = experiments.Experiment("-", "cost", experiments.OK, 0, lambda x: faults.nothing, starts_well=watched,
                               options=() if watched else ("--debug.unwatched=true",))
    server = start(e, source)
    try:
        while server.metric("bitnet_workers") < 1:
            time.sleep(0.05)
        work(server, 1)
        return work(server, requests)
    finally:
        server.stop()


def cost(pairs, seconds, source):
    """Pairs in the order ABBA, so that a drift of the machine falls on both alike."""
    requests = max(1, round(seconds * throughput(source, 2, True) / CLIENTS / TOKENS))
    ratios, with_checks = [], []
    for i in range(pairs):
        order = (True, False) if i % 2 == 0 else (False, True)
        measured = {watched: throughput(source, requests, watched) for watched in order}
        ratios.append(measured[True] / measured[False])
        with_checks.append(measured[True])
        print(f"pair {i + 1}: {measured[True]:.0f} tokens/s watched, {measured[False]:.0f} not: {ratios[-1]:.4f}",
              flush=True)
    ratios.sort()
    # Distribution-free: the median lies between these two with 95 % probability (binomial, normal approximation).
    half = 0.98 * math.sqrt(len(ratios))
    low = max(0, math.floor(len(ratios) / 2 - half))
    return {"pairs": pairs, "seconds": seconds, "model": source.stem, "median": statistics.median(ratios), "interval": [ratios[low], ratios[-1 - low]],
            "tokens_per_second": statistics.median(with_checks)}
