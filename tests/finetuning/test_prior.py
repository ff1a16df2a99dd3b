import pytest

from tests.tiny_models import tiny_pipeline
from vidgen_lab.finetuning.dataset import DataConfig, make_prior, read_training_clips
from vidgen_lab.generation.request import GenerationRequest
from vidgen_lab.video.reader import read_clip


def test_the_base_models_clips_become_a_folder_to_train_on(tmp_path):
    request = GenerationRequest(
        "-", num_inference_steps=1, num_frames=9, height=32, width=32, model="tiny"
    )
    prompts = ["a red ball", "a blue star"]
    folder = make_prior(tiny_pipeline(), prompts, tmp_path / "prior", request)
    found, _ = read_training_clips(DataConfig(folder, 9, 32, 32))
    assert [clip.caption for clip in found] == prompts
    kept = folder / "videos" / "00000.mp4"
    before = kept.read_bytes()
    (folder / "videos" / "00001.mp4").unlink()
    make_prior(tiny_pipeline(seed=1), prompts, folder, request)
    assert kept.read_bytes() == before
    assert read_clip(folder / "videos" / "00001.mp4").num_frames == 9
    with pytest.raises(ValueError, match="no prompt"):
        make_prior(tiny_pipeline(), [], folder, request)
