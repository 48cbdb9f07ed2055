"""Some seconds of hostile clients, which `python tests/serving/hostile.py` is the whole of."""

import pytest

pytest.importorskip("httptools")
pytest.importorskip("grpc")

import hostile


@pytest.mark.cpu("servers are for CPUs")
def test_slow_and_vanishing_clients_and_hostile_requests_cost_others_nothing():
    lines = []
    found = hostile.main(
        ["--connections", "350", "--slow", "30", "--cases", "100"], report=lambda line, **_: lines.append(line)
    )
    assert not found["faults"], "\n".join(lines)
    assert found["counts"]["requests"] > 80 and found["counts"]["gRPC messages"] == 100
