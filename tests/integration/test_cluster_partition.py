"""Nodes in network namespaces: a cut cable, and a link that fails in one direction. Needs the right to make
namespaces; skipped with the reason where that is not given."""

import http.client
import os
import subprocess
import time
import unittest

from cluster_processes import Cluster, Stream
from server_process import SLOWDOWN, Server
from test_cluster import STREAMS, body

NODES = 3


def ip(*arguments, check=True):
    return subprocess.run(["ip", *map(str, arguments)], check=check, capture_output=True, text=True)


class Network:
    """A bridge with one namespace a node; node i has 10.177.N.i+1."""

    made = 0

    def __init__(self, nodes: int):
        # Names of its own each time: the kernel takes a moment to let go of old ones.
        Network.made += 1
        self.tag = f"bn{os.getpid() % 10000}{chr(96 + Network.made)}"
        self.subnet = f"10.177.{(os.getpid() + Network.made) % 250}"
        self.nodes = nodes
        try:
            ip("link", "add", self.tag, "type", "bridge")
            ip("addr", "add", f"{self.subnet}.254/24", "dev", self.tag)
            ip("link", "set", self.tag, "up")
            for i in range(nodes):
                ip("netns", "add", self.namespace(i))
                ip("link", "add", self.cable(i), "type", "veth", "peer", "name", "eth0", "netns", self.namespace(i))
                ip("link", "set", self.cable(i), "master", self.tag, "up")
                self.inside(i, "ip", "addr", "add", f"{self.address(i)}/24", "dev", "eth0")
                self.inside(i, "ip", "link", "set", "eth0", "up")
                self.inside(i, "ip", "link", "set", "lo", "up")
        except (OSError, subprocess.CalledProcessError) as e:
            if not isinstance(e, FileNotFoundError):  # with no `ip` there is nothing to take back
                self.close()
            raise unittest.SkipTest(f"no network namespaces here: {getattr(e, 'stderr', '') or e}")

    def namespace(self, i):
        return f"{self.tag}-{i}"

    def cable(self, i):
        return f"{self.tag}v{i}"

    def address(self, i):
        return f"{self.subnet}.{i + 1}"

    def inside(self, i, *command):
        return subprocess.run(["ip", "netns", "exec", self.namespace(i), *command], check=True, capture_output=True)

    def cut(self, i):
        ip("link", "set", self.cable(i), "down")

    def mend(self, i):
        ip("link", "set", self.cable(i), "up")

    def deaf(self, i, other, yes: bool):
        """What `other` sends does not reach `i`, whatever the other direction does."""
        self.inside(i, "ip", "route", "add" if yes else "del", "blackhole", f"{self.address(other)}/32")

    def close(self):
        for i in range(self.nodes):
            ip("netns", "del", self.namespace(i), check=False)
        ip("link", "del", self.tag, check=False)


class NamespacedServer(Server):
    def __init__(self, address, *options, **kwargs):
        self.address = address
        super().__init__(*options, **kwargs)

    def connect(self, timeout: float = 30):
        return http.client.HTTPConnection(self.address, self.port, timeout=timeout * SLOWDOWN)


class NamespacedCluster(Cluster):
    def __init__(self, network: Network):
        super().__init__(NODES)
        self.network = network
        self.ports = [7400] * NODES

    def start(self, index):
        address = self.network.address(index)
        seeds = ",".join(f"{self.network.address(i)}:7400" for i in range(NODES))
        return NamespacedServer(
            address, f"--http.address={address}", f"--cluster.address={address}", "--cluster.port=7400",
            f"--cluster.seeds=[{seeds}]", *self.authority.options(f"node{index}", f"IP:{address}"),
            "--health.startup-grace=0s", "--engine.threads=1",
            command_prefix=("ip", "netns", "exec", self.network.namespace(index)))

    def address(self, index):
        return f"{self.network.address(index)}:7400"


class PartitionTest(unittest.TestCase):
    def setUp(self):
        self.network = Network(NODES)
        self.addCleanup(self.network.close)

    def test_no_stream_is_lost_when_a_cable_is_cut(self):
        with NamespacedCluster(self.network) as c:
            expected = [c.servers[0].post("/v1/completions", body(i)).json()["choices"][0]["text"] for i in range(STREAMS)]
            streams = [Stream(c.servers[0], body(i)) for i in range(STREAMS)]
            for s in streams:
                s.start()
            c.wait_serving(1, STREAMS // 6)
            self.network.cut(1)
            for s in streams:
                s.join(60 * SLOWDOWN)
            self.assertEqual([s.error for s in streams if s.error], [])
            self.assertEqual([s.text for s in streams], expected)
            gap = max(s.longest_gap for s in streams)
            self.assertLess(gap, 6 * SLOWDOWN)
            self.assertGreater(c.moved(0), 0)
            print(f"cable cut: longest gap {gap * 1000:.0f} ms")
            c.wait_state(0, 1, "dead")
            c.wait_state(2, 1, "dead")
            self.assertEqual(c.servers[0].get("/health/ready").status, 200)
            self.network.mend(1)
            c.wait_alive(range(NODES), 30)
            # It served alone meanwhile and is as ready as the others.
            self.assertEqual(c.servers[1].get("/health/ready").status, 200)

    def test_a_link_that_fails_between_two_nodes_kills_neither(self):
        with NamespacedCluster(self.network) as c:
            # Packets of node 1 to node 0 go nowhere; both still reach node 2.
            self.network.deaf(1, 0, True)
            c.wait_state(0, 1, "suspect", 15)
            c.wait_state(1, 0, "suspect", 15)
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                self.assertEqual(c.state(2, 0), "alive")
                self.assertEqual(c.state(2, 1), "alive")
                self.assertNotEqual(c.state(0, 1), "dead")
                time.sleep(0.2)
            self.network.deaf(1, 0, False)
            c.wait_alive(range(NODES), 30)


if __name__ == "__main__":
    unittest.main()
