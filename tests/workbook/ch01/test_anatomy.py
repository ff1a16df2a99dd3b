"""Counts and shapes of full-size models on the meta device, against known totals."""

from vidgen_lab.workbook.ch01 import anatomy


def test_full_size_parameter_counts():
    for layout, total in (("2b", 1_693_783_872), ("5b", 5_570_283_072)):
        transformer = anatomy.meta_model("transformer", layout)
        groups = anatomy.parameter_groups(transformer)
        assert groups.sum() == anatomy.count_parameters(transformer) == total
        assert groups["feed-forward"] > groups["attention (q, k, v, out)"] > 0


def test_shapes_at_native_size():
    shapes = anatomy.trace_shapes(49, 480, 720)
    assert shapes["text"] == (1, 226, 4096)
    assert shapes["noise"] == shapes["prediction"] == (1, 13, 16, 60, 90)
    assert shapes["patches"] == (1, 17_550, 1920)
    assert shapes["joint"] == (anatomy.count_tokens(49, 480, 720),) == (17_776,)
    assert shapes["video"] == (1, 3, 49, 480, 720)


def test_slicing_splits_a_batch_and_nothing_else():
    one = [anatomy.decoder_calls(1, slicing) for slicing in (False, True)]
    assert one[0] == one[1]
    plain, sliced = (anatomy.decoder_calls(2, slicing) for slicing in (False, True))
    assert sliced["calls"] == 2 * plain["calls"]
    assert (plain["clips in one call"], sliced["clips in one call"]) == (2, 1)


def test_attention_layers_of_three_models():
    layers = anatomy.attention_layers().set_index("model")
    assert layers.loc["CogVideoX-2B", "cross-attention"] == 0
    assert layers.loc["CogVideoX-2B", "joint attention"] == 30
    assert layers.loc["Latte-1, spatial blocks", "cross-attention"] == 28
    assert layers.loc["Latte-1, temporal blocks", "cross-attention"] == 0


def test_backbones_are_counted_at_full_size():
    table = anatomy.backbones().set_index("model")
    assert table.loc["CogVideoX-2B", "parameters (M)"] == 1694
    assert table.loc["Stable Diffusion 1.5", "parameters (M)"] == 860
    assert (table["TFLOP"] > 0).all()
