"""The adapters with random models of the real architectures, a few thousand weights each."""

import numpy as np
import pytest
import torch

from tests.pipeline.samples import moving
from vidgen_lab.pipeline.annotate import annotators, hub
from vidgen_lab.video.clip import Clip


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


class Words:
    """Stands in for a tokenizer."""

    def __call__(self, texts, **_):
        ids = torch.tensor([[1, 2 + len(t) % 20, 3] for t in texts])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def tiny_rt_detr():
    import transformers

    backbone = transformers.RTDetrResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = transformers.RTDetrConfig(
        backbone_config=backbone, encoder_hidden_dim=16, encoder_in_channels=[8, 16, 16],
        feat_strides=[8, 16, 32], encoder_layers=1, encoder_ffn_dim=16, encoder_attention_heads=2,
        d_model=16, num_queries=7, decoder_in_channels=[16, 16, 16], decoder_ffn_dim=16,
        decoder_layers=2, decoder_attention_heads=2, num_labels=3, num_denoising=0,
    )  # fmt: skip
    processor = transformers.RTDetrImageProcessor(size={"height": 64, "width": 64})
    return transformers.RTDetrForObjectDetection(config), processor


def test_rt_detr_boxes_lie_in_pixels_of_the_clip():
    detector = hub.RtDetrDetector(*tiny_rt_detr(), "tiny", samples=2, threshold=0.0)
    found = detector.detect(moving())
    assert len(found) == 2 * 7 and {f["frame"] for f in found} == {0, 15}
    assert {f["label"] for f in found} <= set(detector.model.config.id2label.values())
    for thing in found:
        x, y, w, h = thing["box"]
        assert 0 <= x < x + w <= 96 and 0 <= y < y + h <= 64 and 0 <= thing["score"] <= 1
    scores = [f["score"] for f in found[:7]]
    assert scores == sorted(scores, reverse=True)


def test_a_box_comes_back_where_the_model_put_it(monkeypatch):
    """Half the width around the middle, a quarter of the height; one query of seven is sure."""
    from types import SimpleNamespace

    model, processor = tiny_rt_detr()
    logits = torch.full((1, 7, 3), -9.0)
    logits[0, 4, 2] = 9.0
    boxes = torch.tensor([0.5, 0.5, 0.5, 0.25]).expand(1, 7, 4)
    said = SimpleNamespace(logits=logits, pred_boxes=boxes)
    monkeypatch.setattr(model, "forward", lambda **inputs: said)
    (found,) = hub.RtDetrDetector(model, processor, "tiny", samples=1).detect(moving())
    assert found["box"] == pytest.approx([24, 24, 48, 16])
    assert (found["frame"], found["label"]) == (0, model.config.id2label[2])


def test_xclip_ranks_the_labels():
    from transformers import VideoMAEImageProcessor, XCLIPConfig, XCLIPModel

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
    side = {"height": 32, "width": 32}
    processor = VideoMAEImageProcessor(size={"shortest_edge": 32}, crop_size=side)
    model = XCLIPModel(config)
    actor = hub.XClipActions(model, processor, Words(), "tiny", labels=("running", "a cat sits"))
    ranked = actor.act(moving())
    assert {a["label"] for a in ranked} == {"running", "a cat sits"}
    assert sum(a["score"] for a in ranked) == pytest.approx(1, abs=1e-5)
    assert ranked[0]["score"] >= ranked[1]["score"]
    short = moving(num_frames=2)  # fewer frames than the model wants
    assert len(actor.act(short)) == 2


class SmolVlmWords:
    """Stands in for SmolVLM's processor: two frames of one token each, and three words."""

    def apply_chat_template(self, messages, add_generation_prompt):
        (message,) = messages
        kinds = [part["type"] for part in message["content"]]
        assert kinds[-1] == "text" and add_generation_prompt
        return " ".join(kinds)

    def __call__(self, text, images, do_image_splitting, return_tensors):
        assert not do_image_splitting and text.split().count("image") == len(images)
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
    captioner = hub.SmolVlmCaptioner(model, SmolVlmWords(), "tiny", samples=2, max_new_tokens=4)
    words = captioner.caption(moving(), [], [])
    assert 1 <= len(words.split()) <= 4
    assert words == captioner.caption(moving(), [], [])


def tiny_clip_embedder():
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=37,
        image_size=32, patch_size=16, projection_dim=24,
    )  # fmt: skip
    side = {"height": 32, "width": 32}
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=side)
    return hub.ClipEmbedder(CLIPVisionModelWithProjection(config), processor, "tiny")


def test_embeddings_are_directions():
    embedder = tiny_clip_embedder()
    vector = embedder.embed(moving(1))
    assert vector.shape == (24,) and np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    assert np.array_equal(vector, embedder.embed(moving(1)))


def test_pictures_are_prepared_as_the_model_learned_it():
    """CLIP's processor keeps the shape and takes the middle square: what lies outside of it, in a
    picture of 96x64, is not seen, and nothing is squashed."""
    embedder = tiny_clip_embedder()
    clip = moving(1)
    outside, inside = clip.frames.copy(), clip.frames.copy()
    outside[:, :, :12] = 255 - outside[:, :, :12]
    inside[:, 20:40, 40:60] = 255 - inside[:, 20:40, 40:60]
    vector = embedder.embed(clip)
    assert np.allclose(embedder.embed(Clip(outside, 8)), vector, atol=1e-6)
    assert not np.allclose(embedder.embed(Clip(inside, 8)), vector, atol=1e-3)


TRAINED = [(role, name) for role, table in annotators.ANNOTATORS.items()
           for name, kind in table.items() if isinstance(kind, str)]  # fmt: skip


@pytest.mark.parametrize(("role", "name"), TRAINED)
def test_a_trained_annotator_waits_for_permission_and_says_what_it_weighs(role, name):
    with pytest.raises(FileNotFoundError, match=r"download=True\. .* MB, licence"):
        annotators.make(role, name)


def test_without_permission_nobody_asks_the_hub_for_adapters(monkeypatch):
    """transformers does by itself, and without a network each clip waited for it."""
    asked = []

    def find(name, **how):
        asked.append(how.get("local_files_only"))

    place = "transformers.models.auto.auto_factory.find_adapter_config_file"
    monkeypatch.setattr(place, find)
    with pytest.raises(FileNotFoundError):
        annotators.make("detector", "rtdetr")
    assert asked == [True]


def test_every_role_has_one_trained_annotator_and_its_weights_are_known():
    assert [role for role, _ in TRAINED] == list(annotators.ANNOTATORS)
    assert len(hub.WEIGHTS) == len(TRAINED)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="detector must be one of motion, rtdetr, not 'yolo11'"):
        annotators.make("detector", "yolo11")
