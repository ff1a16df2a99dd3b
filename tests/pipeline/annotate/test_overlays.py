import numpy as np
import pytest

from tests.pipeline.samples import film, moving, picture
from vidgen_lab.pipeline.annotate.overlays import text_share, watermark_share
from vidgen_lab.video.clip import Clip
from vidgen_lab.workbook.ch02.demos import page_of_text, with_logo


def test_a_logo_stays_while_the_film_changes_under_it():
    plain = film((1, 2, 3, 4), 4)
    assert watermark_share(with_logo(plain, "TV")) > watermark_share(plain) + 0.002


def test_a_wall_is_no_watermark():
    still = Clip(np.repeat(picture(1)[None], 6, axis=0), 8)
    assert watermark_share(still) == 0
    with pytest.raises(ValueError, match="three frames"):
        watermark_share(moving(1, 2))


def test_a_page_is_text_and_a_picture_is_not():
    assert text_share(page_of_text("subscribe now for more")) > 0.1
    assert text_share(picture(2, 200, 110)) < 0.05
