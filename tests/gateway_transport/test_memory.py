"""What a connection with nothing to do costs."""

import importlib.util
import resource
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench_transport.py"


@pytest.fixture
def bench():
    """The bench script as a module."""
    pytest.importorskip("psutil")
    spec = importlib.util.spec_from_file_location("bench_transport", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def descriptors():
    """Room for 2,000 sockets here and in the server."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] < 2500:
        pytest.skip("the limit on open files is too low")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], 2500), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_an_idle_connection_costs_at_most_12_kb(bench, descriptors, loop_name):
    """2,000 open WebSockets, each with its task in recv: resident memory, divided."""
    with bench.our_server(uvloop=loop_name == "uvloop") as (process, port):
        assert bench.idle_memory(process, port) <= 12_000
