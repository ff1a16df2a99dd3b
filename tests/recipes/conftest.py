import pytest

from recipes import training
from tests.recipes.samples import RECIPES, train


@pytest.fixture(scope="session", autouse=True)
def often_saved():
    """A checkpoint every second step, and no TensorBoard."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(training.TRAINING, "checkpoint_every", 2)
        patch.setitem(training.TRAINING, "tensorboard", False)
        yield


@pytest.fixture(scope="session")
def trained(often_saved, tmp_path_factory):
    """All parts after a few steps each, trained in one go."""
    folder = tmp_path_factory.mktemp("trained")
    for part in RECIPES:
        train(part, folder)
        training.note_commit(folder / part)
    return folder
