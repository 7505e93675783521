"""Images that stand for all of them."""

import pytest
import torch

from smdguard.auditing.sampling import evenly_spaced


@pytest.mark.parametrize("num_wanted", [100, 200])
def test_evenly_spaced_images_are_different_ones_that_there_are(num_wanted: int) -> None:
    for num_images in range(1500):
        rows = evenly_spaced(num_images, num_wanted, torch.device("cpu"))
        assert len(set(rows.tolist())) == len(rows) == min(num_images, num_wanted)
        assert num_images == 0 or (rows.min(), rows.max()) == (0, num_images - 1 if len(rows) > 1 else 0)
