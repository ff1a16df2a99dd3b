import pytest

from tests.tiny_models import LAYOUTS, build_tiny
from vidgen_lab.generation.loading import load_pipeline
from vidgen_lab.generation.request import GenerationRequest


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Layout -> folder of a tiny model. Do not change the files."""
    root = tmp_path_factory.mktemp("tiny-models")
    return {layout: build_tiny(root / layout, layout) for layout in LAYOUTS}


@pytest.fixture(scope="session")
def pipes(folders):
    """Layout -> pipeline, loaded as every model is."""
    return {layout: load_pipeline(folder, device="cpu") for layout, folder in folders.items()}


@pytest.fixture(params=LAYOUTS)
def layout(request):
    return request.param


@pytest.fixture
def pipe(pipes):
    return pipes["2b"]


@pytest.fixture
def request_():
    """A clip every tiny layout can make, in a tenth of a second."""
    return GenerationRequest(
        "a red ball bouncing", num_frames=17, height=32, width=32, num_inference_steps=2
    )
