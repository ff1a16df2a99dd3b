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
