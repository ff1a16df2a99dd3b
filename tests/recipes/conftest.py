import pytest

from tests.recipes.samples import RECIPES, train


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """All parts after a few steps each, trained in one go."""
    folder = tmp_path_factory.mktemp("trained")
    for part in RECIPES:
        train(part, folder)
    return folder
