"""The adapters with random models of the real architectures, a few thousand weights each."""

import numpy as np
import pytest
import torch

from tests.pipeline.samples import moving
from vidgen_lab.pipeline.annotate import hub, registry


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


class Words:
    """Stands in for a tokenizer."""

    def __call__(self, texts, **_):
        from types import SimpleNamespace

        ids = torch.tensor([[1, 2 + len(t) % 20, 3] for t in texts])
        return SimpleNamespace(input_ids=ids, attention_mask=torch.ones_like(ids))

    def decode(self, tokens, skip_special_tokens=True):
        return " " + " ".join(str(int(t)) for t in tokens)


def test_yolos_boxes_lie_in_pixels_of_the_clip():
    from transformers import YolosConfig, YolosForObjectDetection

    config = YolosConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=37,
        image_size=[64, 96], patch_size=16, num_detection_tokens=5, num_labels=3,
    )  # fmt: skip
    detector = hub.HubDetector(YolosForObjectDetection(config), "tiny", side=64, looks=3, least=0)
    found = detector.detect(moving())
    assert len(found) == 3 * 5 and {f["frame"] for f in found} == {0, 8, 15}
    assert {f["label"] for f in found} <= set(config.id2label.values())
    boxes = np.array([f["box"] for f in found])
    assert (boxes[:, 2] <= 96).all() and (boxes[:, 3] <= 64).all() and (boxes[:, 2:] >= 0).all()
    scores = [f["score"] for f in found[:5]]
    assert scores == sorted(scores, reverse=True)
    assert hub.HubDetector(detector.model, "tiny", 64, least=1.0).detect(moving()) == []


@pytest.mark.parametrize("version", [1, 2])
def test_rt_detr_boxes_lie_in_pixels_of_the_clip(version):
    import transformers

    backbone = transformers.RTDetrResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    kind = "RTDetr" if version == 1 else "RTDetrV2"
    config = getattr(transformers, f"{kind}Config")(
        backbone_config=backbone, encoder_hidden_dim=16, encoder_in_channels=[8, 16, 16],
        feat_strides=[8, 16, 32], encoder_layers=1, encoder_ffn_dim=16, encoder_attention_heads=2,
        d_model=16, num_queries=7, decoder_in_channels=[16, 16, 16], decoder_ffn_dim=16,
        decoder_layers=2, decoder_attention_heads=2, num_labels=3, num_denoising=0,
    )  # fmt: skip
    model = getattr(transformers, f"{kind}ForObjectDetection")(config)
    detector = hub.HubDetector(model, "tiny", side=64, looks=2, least=0)
    assert detector.square
    found = detector.detect(moving())
    assert len(found) == 2 * 7 and {f["frame"] for f in found} == {0, 15}
    boxes = np.array([f["box"] for f in found])
    assert (boxes[:, 2] <= 96).all() and (boxes[:, 3] <= 64).all() and (boxes[:, 2:] >= 0).all()


def test_xclip_ranks_the_labels():
    from transformers import XCLIPConfig, XCLIPModel

    text = {
        "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 37, "vocab_size": 99, "eos_token_id": 3,
    }  # fmt: skip
    vision = {
        "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 37, "image_size": 32, "patch_size": 16, "num_frames": 4,
        "mit_hidden_size": 32, "mit_intermediate_size": 64, "mit_num_attention_heads": 2,
    }  # fmt: skip
    config = XCLIPConfig(
        text_config=text, vision_config=vision, projection_dim=32, prompt_num_attention_heads=2
    )
    actor = hub.XClipActions(XCLIPModel(config), Words(), ("running", "a cat sits"), "tiny")
    ranked = actor.act(moving())
    assert {a["label"] for a in ranked} == {"running", "a cat sits"}
    assert sum(a["score"] for a in ranked) == pytest.approx(1, abs=1e-5)
    assert ranked[0]["score"] >= ranked[1]["score"]


def test_blip_writes_a_caption():
    from transformers import BlipConfig, BlipForConditionalGeneration

    text = {
        "hidden_size": 32, "encoder_hidden_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": 37, "vocab_size": 99, "bos_token_id": 1,
        "sep_token_id": 2, "eos_token_id": 2, "pad_token_id": 0,
    }  # fmt: skip
    vision = {
        "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 37, "image_size": 32, "patch_size": 16,
    }  # fmt: skip
    config = BlipConfig(text_config=text, vision_config=vision, projection_dim=32)
    captioner = hub.BlipCaptioner(BlipForConditionalGeneration(config), Words(), "tiny", 5)
    text = captioner.caption(moving(), [], [])
    assert text and text == text.strip() == captioner.caption(moving(), [], [])


class Look:
    """Stands in for SmolVLM's processor: two frames of one token each, and three words."""

    def apply_chat_template(self, messages, add_generation_prompt):
        (message,) = messages
        kinds = [part["type"] for part in message["content"]]
        assert kinds[-1] == "text" and add_generation_prompt
        return " ".join(kinds)

    def __call__(self, text, images, return_tensors):
        assert text.split().count("image") == len(images)
        pixels = torch.stack([torch.from_numpy(np.array(i.resize((16, 16)))) for i in images])
        pixels = pixels.permute(0, 3, 1, 2)[None].float() / 255
        ids = torch.tensor([[1] + [9] * len(images) + [4, 5]])
        return {
            "pixel_values": pixels, "input_ids": ids, "attention_mask": torch.ones_like(ids)
        }  # fmt: skip

    def batch_decode(self, tokens, skip_special_tokens):
        return [" " + " ".join(str(int(t)) for t in row) for row in tokens]


def test_smolvlm_describes_several_frames():
    from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration

    text = {
        "model_type": "llama", "hidden_size": 32, "intermediate_size": 37, "vocab_size": 99,
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2,
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    vision = {
        "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 37, "image_size": 16, "patch_size": 8,
    }  # fmt: skip
    config = SmolVLMConfig(
        text_config=text, vision_config=vision, image_token_id=9, scale_factor=2, pad_token_id=0
    )
    model = SmolVLMForConditionalGeneration(config)
    captioner = hub.SmolVlmCaptioner(model, Look(), "tiny", looks=2, max_new_tokens=4)
    words = captioner.caption(moving(), [], [])
    assert 1 <= len(words.split()) <= 4
    assert words == captioner.caption(moving(), [], [])


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_embeddings_are_directions(family):
    from transformers import (
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
        SiglipVisionConfig,
        SiglipVisionModel,
    )

    shape = {
        "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 37, "image_size": 32, "patch_size": 16,
    }  # fmt: skip
    model = (
        CLIPVisionModelWithProjection(CLIPVisionConfig(**shape, projection_dim=24))
        if family == "clip"
        else SiglipVisionModel(SiglipVisionConfig(**shape))
    )
    embedder = hub.HubEmbedder(model, "tiny")
    vector = embedder.embed(moving(1))
    assert vector.shape == ((24,) if family == "clip" else (32,))
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    assert np.array_equal(vector, embedder.embed(moving(1)))


@pytest.mark.parametrize(
    ("table", "name"),
    [
        (registry.DETECTORS, "rtdetr"), (registry.DETECTORS, "yolos"),
        (registry.ACTIONS, "xclip"), (registry.CAPTIONERS, "blip"),
        (registry.CAPTIONERS, "smolvlm"), (registry.EMBEDDERS, "clip"),
        (registry.EMBEDDERS, "siglip"),
    ],
)  # fmt: skip
def test_trained_annotators_have_short_names_and_wait_for_permission(table, name):
    assert table[name].hub_id in hub.WEIGHTS
    with pytest.raises(FileNotFoundError, match="MB, licence"):
        registry.make(table, name)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="motion, yolos, rtdetr"):
        registry.make(registry.DETECTORS, "yolo11")


def test_nothing_is_fetched_unasked_and_the_licence_is_named():
    with pytest.raises(FileNotFoundError, match="26 MB, licence Apache-2.0"):
        hub.HubDetector.load()
    with pytest.raises(FileNotFoundError, match="download=True"):
        hub.HubEmbedder.load("google/siglip-base-patch16-224")
