# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The node module's own code, without Ansible's start, beside the bare nft commands: 10,000 services, 1,000 exemptions.

In turns in one run, in a network and mount namespace of this process's own. Real: nft, the ports (taps in bridges, read
from sysfs), the desired state (catalogue, policy and `resolve`), the state files, the roll-back's process. libvirt is its
own test driver in this process, with every guest running; its share is shown by itself, because bare nft asks no libvirt.
Needs root.

    python tests/benchmarks/bench_node.py [services] [rounds] [profile]
"""
from __future__ import annotations

import cProfile
import gc
import os
import pstats
import statistics
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parent)]

import provider
from bench_nftables import bare_apply, bare_parse, must, run, timed
from figures import line

from ansible_collections.hosting.aup.plugins.module_utils import _kvm_node
from ansible_collections.hosting.aup.plugins.module_utils._backends import _nftables
from ansible_collections.hosting.aup.plugins.module_utils._resolve import resolve
from ansible_collections.hosting.aup.plugins.module_utils._wire import pack
from ansible_collections.hosting.aup.plugins.plugin_utils._catalogue import load_catalogue
from ansible_collections.hosting.aup.plugins.plugin_utils._policies import load_policy
from tests.lab import inventory, plan
from tests.lab.node import Node

NOW = 1_800_000_000
_DOMAIN = """<domain type="test"><name>%(name)s</name><uuid>%(uuid)s</uuid><memory>2048</memory><os><type>hvm</type></os>
<devices><interface type="bridge"><mac address="%(mac)s"/><source bridge="%(bridge)s"/><target dev="%(tap)s"/></interface></devices>
</domain>"""


def catalogue_of(folder: Path, services: int) -> tuple[dict, object]:
    """The catalogue of that many services and the lab's policy, loaded as the controller loads them."""
    inventory.write(folder, [Node(plan.NodePlan(1, ()), folder / "kvm1", folder, "0")], folder, "sqlite:////nowhere")
    provider.write_catalogue(folder / "hosts.aup.yml", services)
    return load_catalogue(str(folder / "catalogue.yml")), load_policy(str(folder / "provider.yml"))


def desired_state(folder: Path, services: int) -> str:
    """What the controller would send for this node, packed."""
    return desired_of(*catalogue_of(folder, services))


def desired_of(catalogue: dict, policy, enforcements: list | tuple = (), revision: int = 1) -> str:
    """The same, of a catalogue that is at hand and with enforcements as the ledger's snapshot has them."""
    services = len(catalogue["services"])
    snapshot = {
        "ledger": "00000000-0000-4000-8000-000000000001", "epoch": 1, "revision": revision,
        "node": {"name": "kvm1", "release_id": 1, "adopted_at": NOW},
        "release": {"id": 1, "created_at": NOW, "policy_keys": [policy.key], "default_policy": policy.key, "catalogue_digest": "0" * 64},
        "policies": {}, "catalogue": catalogue, "enforcements": list(enforcements), "baselines": [], "adoptions": {},
        "exemptions": [{"id": f"X-{number}", "service": provider.service(number)["id"], "control": "smtp_outbound", "reason": "",
                        "clause": None, "starts_at": NOW, "ends_at": None} for number in range(0, services, 10)],
    }
    node = dict(catalogue["nodes"]["kvm1"], name="kvm1")
    return pack(resolve({policy.key: policy}, snapshot, node, NOW).desired)


def make_host(folder: Path, services: int) -> str:
    """Bridges and taps of this namespace, and all guests running in libvirt's test driver; returns its URI."""
    must(["mount", "-t", "sysfs", "sysfs", "/sys"])
    lines = []
    for number in range(services):
        one = provider.service(number)
        if number % provider.PORTS_OF_A_BRIDGE == 0:
            lines += [f"link add {one['bridge']} type bridge", f"link set {one['bridge']} up"]
        lines += [f"tuntap add dev {one['tap']} mode tap", f"link set {one['tap']} master {one['bridge']}"]
    must(["ip", "-batch", "-"], "\n".join(lines) + "\n")
    path = folder / "node.xml"
    path.write_text("<node>" + "".join(_DOMAIN % provider.service(number) for number in range(services)) + "</node>")
    return f"test://{path}"


@contextmanager
def libvirts_share():
    """A list to which each listing of guests adds its seconds."""
    whole, spent = _kvm_node._libvirt.guests, []

    def guests(host, *more):
        took, found = timed(whole, host, *more)
        spent.append(took)
        return found

    _kvm_node._libvirt.guests = guests
    try:
        yield spent
    finally:
        _kvm_node._libvirt.guests = whole


def converge(node: _kvm_node.KvmNode, packed: str, expected: str) -> None:
    """Plan, apply and look again, as the module does on `apply`, and confirm as the controller does."""
    planned = node.plan(packed)
    assert [step["verb"] for step in planned["steps"]] == [expected], planned["steps"]
    start = time.perf_counter()
    done = node.apply(packed, planned["plan_hash"])
    took = time.perf_counter() - start
    assert done["changed"] and not done["unverified"] and not done["errors"], done["unverified"] or done["errors"]
    os.unlink(done["confirm"])
    return took


def unchanged(node: _kvm_node.KvmNode, packed: str) -> None:
    """A run that finds nothing to do."""
    assert not node.plan(packed, advance=True)["changed"]


def main(services: int = 10000, rounds: int = 5, profile: bool = False) -> None:
    """Measure and print."""
    if os.geteuid() != 0:
        raise SystemExit("needs root, for a network namespace")
    if os.environ.get("AUP_BENCH_INSIDE") != "1":
        os.execvpe("unshare", ["unshare", "--net", "--mount", sys.executable, *sys.argv], dict(os.environ, AUP_BENCH_INSIDE="1"))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        packed, uri = desired_state(folder / "inventory", services), make_host(folder, services)
        gc.disable()  # as the module does
        node = _kvm_node.KvmNode(run, uri=uri, root=str(folder))
        converge(node, packed, "rebuild")
        script = _nftables.snapshot_script(_nftables.observe(run))
        if profile:
            must(["nft", "flush", "ruleset"])
            profiler = cProfile.Profile()
            profiler.runcall(converge, node, packed, "rebuild")
            pstats.Stats(profiler).sort_stats("cumulative").print_stats(40)
        names = ("bare", "apply", "apply, libvirt", "parse", "unchanged", "unchanged, libvirt")
        seconds: dict[str, list[float]] = {name: [] for name in names}
        with libvirts_share() as spent:
            for _ in range(rounds):
                must(["nft", "flush", "ruleset"])
                seconds["bare"].append(timed(bare_apply, script)[0])
                must(["nft", "flush", "ruleset"])
                seconds["apply"].append(converge(node, packed, "rebuild"))
                seconds["apply, libvirt"].append(sum(spent[1:]))  # the first was that of the plan
                spent.clear()
                seconds["parse"].append(timed(bare_parse)[0])
                seconds["unchanged"].append(timed(unchanged, node, packed)[0])
                seconds["unchanged, libvirt"].append(sum(spent))
                spent.clear()
        sizes = {path.name: path.stat().st_size for path in (folder / "var/lib/hosting_aup").iterdir()}
    median = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"{services} services, {services // 10} exempt, all guests running; median of {rounds} rounds; "
          f"desired state {len(packed) / 1e3:.0f} kB packed, state.json {sizes['state.json'] / 1e6:.1f} MB")
    for label, name, against in (("KvmNode.apply: observe, plan, load, observe, plan", "apply", "bare"),
                                 ("KvmNode.plan of an unchanged node", "unchanged", "parse")):
        bare = {"bare": "nft -j list, nft -f, nft -j list", "parse": "nft -j list and parse"}[against]
        libvirt = median[name + ", libvirt"]
        ours = statistics.median(one - other for one, other in zip(seconds[name], seconds[name + ", libvirt"], strict=True))
        print(line(bare, f"{median[against]:.3f} s"))
        print(line(f"  {label}, libvirt left out", f"{ours:.3f} s  {ours / median[against]:.2f} x", "at most 2 x"))
        print(line(f"  {label}, with libvirt's {libvirt:.3f} s", f"{median[name]:.3f} s  {median[name] / median[against]:.2f} x"))


if __name__ == "__main__":
    words = sys.argv[1:]
    main(*[int(word) for word in words if word.isdigit()], profile="profile" in words)
