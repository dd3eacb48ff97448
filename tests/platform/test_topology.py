"""Ranks are bound near their GPU, or distributed over the NUMA nodes, as sysfs describes the machine."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from derail.platform.topology import AffinityMode, NumaOptions, TopologyError, bound_to, cpus_for


def _write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def _ranges(cpus):
    return ",".join(str(cpu) for cpu in sorted(cpus))


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """Return a function that builds a sysfs: nodes as {node: (socket, cpus)}, GPUs as [node, ...], CPUs as pairs of
    hyperthreads, and last-level caches of 4 CPUs each. The same machine is built once: it is hundreds of files."""
    built = {}

    def build(nodes, gpus=()):
        key = (repr(nodes), tuple(gpus))
        if key not in built:
            built[key] = _build(tmp_path_factory.mktemp("sysfs"), nodes, gpus)
        return built[key]

    return build


def _build(tmp_path, nodes, gpus):
    for node, (socket, cpus) in nodes.items():
        _write(tmp_path / f"devices/system/node/node{node}/cpulist", _ranges(cpus))
        for cpu in cpus:
            folder = tmp_path / f"devices/system/cpu/cpu{cpu}"
            _write(folder / "topology/physical_package_id", socket)
            _write(folder / "topology/thread_siblings_list", _ranges({cpu & ~1, cpu | 1}))
            for index, (kind, level, shared) in enumerate(
                [
                    ("Data", 1, {cpu & ~1, cpu | 1}),
                    ("Instruction", 9, {cpu}),
                    ("Unified", 3, set(range(cpu & ~3, (cpu | 3) + 1))),
                ]
            ):
                _write(folder / f"cache/index{index}/type", kind)
                _write(folder / f"cache/index{index}/level", level)
                _write(folder / f"cache/index{index}/shared_cpu_list", _ranges(shared))
    (tmp_path / "devices/system/node/possible").write_text("0-1\n")
    _write(tmp_path / "bus/pci/devices/0000:00:01.0/vendor", "0x8086")
    _write(tmp_path / "bus/pci/devices/0000:00:01.0/class", "0x030000")
    for index, node in reversed(list(enumerate(gpus))):
        # Written backwards: the order is the one of the addresses, not of the directory.
        device = tmp_path / f"bus/pci/devices/0000:{index + 1:02x}:00.0"
        _write(device / "vendor", "0x10de")
        _write(device / "class", "0x030200" if index % 2 else "0x030000")
        _write(device / "numa_node", node)
    return tmp_path


TWO_SOCKETS = {0: (0, range(8)), 1: (0, range(8, 16)), 2: (1, range(16, 24)), 3: (1, range(24, 32))}


def _all(sysfs, mode, count, **more):
    options = NumaOptions(AffinityMode(mode))
    return [set(cpus_for(rank, options, sysfs=sysfs, allowed=range(64), **more)) for rank in range(count)]


def test_no_options_mean_no_binding():
    """Without numa_options nothing is read and nothing bound."""
    assert cpus_for(0, None) is None


def test_node_is_the_node_of_the_gpu(machine):
    """Rank i gets the CPUs of GPU i's node, GPUs in the order of their PCI addresses."""
    sysfs = machine(TWO_SOCKETS, gpus=[3, 0, 0])

    assert _all(sysfs, "node", 3) == [set(range(24, 32)), set(range(8)), set(range(8))]


def test_socket_is_all_nodes_of_the_gpus_socket(machine):
    """Two nodes on one socket belong together."""
    sysfs = machine(TWO_SOCKETS, gpus=[1, 2])

    assert _all(sysfs, "socket", 2) == [set(range(16)), set(range(16, 32))]


def test_exclusive_shares_the_physical_cores_of_a_node_out(machine):
    """Four cores for three GPUs of a node: the first gets two, hyperthreads stay together, no core is shared."""
    sysfs = machine(TWO_SOCKETS, gpus=[0, 0, 1, 0])

    assert _all(sysfs, "exclusive", 4) == [{0, 1, 2, 3}, {4, 5}, set(range(8, 16)), {6, 7}]


def test_core_complex_is_one_cache_per_rank(machine):
    """Each rank gets cores that share one last-level cache, a different one as long as there are."""
    sysfs = machine(TWO_SOCKETS, gpus=[0, 0, 0])

    assert _all(sysfs, "core-complex", 3) == [{0, 1, 2, 3}, {4, 5, 6, 7}, {0, 1, 2, 3}]


def test_core_complexes_with_more_usable_cpus_come_first(machine):
    """The rest of a cpuset decides which cache is used first."""
    sysfs = machine({0: (0, range(8))}, gpus=[0, 0])
    options = NumaOptions(AffinityMode.CORE_COMPLEX)

    assert [cpus_for(rank, options, sysfs=sysfs, allowed={2, 4, 5, 6, 7}) for rank in range(2)] == [{4, 5, 6, 7}, {2}]


def test_without_gpus_ranks_are_dealt_out_over_the_nodes_that_have_cpus(machine):
    """A node of memory alone gets no rank."""
    sysfs = machine({0: (0, range(4)), 1: (1, range(4, 8)), 2: (1, ())})

    assert _all(sysfs, "node", 3) == [{0, 1, 2, 3}, {4, 5, 6, 7}, {0, 1, 2, 3}]
    assert _all(sysfs, "exclusive", 3, ranks=3) == [{0, 1}, {4, 5, 6, 7}, {2, 3}]
    assert _all(sysfs, "core-complex", 2) == [{0, 1, 2, 3}, {4, 5, 6, 7}]


def test_a_gpu_without_a_node_is_on_node_0(machine):
    """Machines with one node report -1."""
    assert _all(machine({0: (0, range(4))}, gpus=[-1]), "node", 1) == [{0, 1, 2, 3}]


def test_only_allowed_cpus_are_given(machine):
    """A cpuset is respected."""
    sysfs = machine(TWO_SOCKETS, gpus=[0])

    assert cpus_for(0, NumaOptions(AffinityMode.NODE), sysfs=sysfs, allowed={1, 2, 30}) == {1, 2}


@pytest.mark.parametrize(
    ("rank", "mode", "allowed", "more", "message"),
    [
        (2, "node", range(64), {}, "rank 2 cannot be bound to CPUs: there is no GPU 2 for it; sysfs shows 2"),
        (0, "node", {30}, {}, "none of the CPUs of NUMA node 0 may be used"),
        (0, "core-complex", {30}, {}, "none of the CPUs of NUMA node 0 may be used"),
        (0, "exclusive", {0, 1}, {}, "NUMA node 0 has 1 usable physical cores for 2 ranks"),
        (
            0,
            "magic",
            range(64),
            {},
            "unknown affinity mode 'magic'; expected one of node, socket, exclusive, core-complex",
        ),
    ],
)
def test_an_impossible_binding_is_explained(machine, rank, mode, allowed, more, message):
    """The error names the rank, what is missing and where."""
    sysfs = machine(TWO_SOCKETS, gpus=[0, 0])
    options = SimpleNamespace(affinity_mode=mode, should_fall_back_if_binding_fails=False)

    with pytest.raises(TopologyError) as caught:
        cpus_for(rank, options, sysfs=sysfs, allowed=allowed, **more)
    assert message in str(caught.value)


def test_a_machine_without_numa_is_named(tmp_path):
    """If sysfs has no nodes, the missing directory is named."""
    with pytest.raises(TopologyError, match="this machine shows no NUMA topology"):
        cpus_for(0, NumaOptions(AffinityMode.NODE), sysfs=tmp_path)


def test_without_gpus_exclusive_needs_the_number_of_ranks(machine):
    """A share of unknown size is not guessed."""
    with pytest.raises(TopologyError, match="the number of ranks is unknown"):
        cpus_for(0, NumaOptions(AffinityMode.EXCLUSIVE), sysfs=machine(TWO_SOCKETS), allowed=range(64))


@pytest.mark.parametrize("mode", list(AffinityMode))
def test_with_fall_back_the_rank_runs_unbound_and_a_warning_says_so(machine, mode):
    """The option of that name turns every error into a warning."""
    options = NumaOptions(mode, should_fall_back_if_binding_fails=True)

    with pytest.warns(RuntimeWarning, match="rank 5 cannot be bound .*; it runs unbound"):
        assert cpus_for(5, options, sysfs=machine(TWO_SOCKETS, gpus=[0]), allowed=range(64)) is None


def test_a_thread_is_bound_only_while_the_body_runs():
    """The affinity of the thread that starts ranks is restored."""
    before = os.sched_getaffinity(0)
    chosen = {min(before)}
    with bound_to(chosen):
        assert os.sched_getaffinity(0) == chosen

    assert os.sched_getaffinity(0) == before


@pytest.mark.torch
@pytest.mark.parametrize("mode", ["node", "socket", "exclusive", "core-complex"])
def test_torchs_own_options_are_taken(machine, mode):
    """torch.numa.binding's objects mean the same here."""
    binding = pytest.importorskip("torch.numa.binding")
    options = binding.NumaOptions(affinity_mode=binding.AffinityMode(mode))
    sysfs = machine(TWO_SOCKETS, gpus=[0])

    assert cpus_for(0, options, sysfs=sysfs, allowed=range(64)) == _all(sysfs, mode, 1)[0]
