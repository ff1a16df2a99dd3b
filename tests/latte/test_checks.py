import pytest
import torch

from vidgen_lab.latte import LatteInputError
from vidgen_lab.latte.checks import check_text


@pytest.mark.parametrize(
    ("text", "mask", "message"),
    [
        (torch.zeros(2, 5), None, r"3 axes \[B, L, D\], given 2 axes \[2, 5\]"),
        (torch.zeros(3, 5, 6), None, r"expected \[2, L, 6\], given \[3, 5, 6\]"),
        (torch.zeros(2, 5, 7), None, r"expected \[2, L, 6\], given \[2, 5, 7\]"),
        (
            torch.zeros(2, 5, 6),
            torch.ones(2, 1, 5, dtype=torch.bool),
            r"\[B, L\] = \[2, 5\].*given torch.bool \[2, 1, 5\]",
        ),
        (
            torch.zeros(2, 5, 6),
            torch.ones(2, 4, dtype=torch.bool),
            r"\[2, 5\], .*given torch.bool \[2, 4\]",
        ),
        (torch.zeros(2, 5, 6), torch.ones(2, 5), "torch.bool .*given torch.float32"),
        (torch.zeros(2, 5, 6), torch.zeros(2, 5, dtype=torch.bool), "masks everything"),
    ],
)
def test_wrong_text(text, mask, message):
    with pytest.raises(LatteInputError, match=message):
        check_text(text, mask, batch=2, width=6)
