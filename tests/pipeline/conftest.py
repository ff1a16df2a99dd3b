"""What the tests of the pipeline share."""

import pytest


@pytest.fixture
def ray_node():
    """A Ray node of two processors."""
    ray = pytest.importorskip("ray")
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=200 * 2**20,
    )
    yield ray
    ray.shutdown()
