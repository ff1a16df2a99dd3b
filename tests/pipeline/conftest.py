"""What the tests of the pipeline share."""

import pytest


@pytest.fixture
def ray_node(monkeypatch):
    """A Ray node of two processors."""
    # its parts wait 30 s for one another, then the node dies: too short for a machine at work
    monkeypatch.setenv("RAY_agent_register_timeout_ms", "600000")
    ray = pytest.importorskip("ray")
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=200 * 2**20,
    )
    yield ray
    ray.shutdown()
