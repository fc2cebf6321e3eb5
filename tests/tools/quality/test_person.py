"""Scores of a fine-tuning on one person."""

import pytest
import torch

from runtime.errors import UserError
from tools.quality.person import main_movement
from tools.quality.person_video import write_person


def test_the_main_movement_is_the_direction_of_largest_variance():
    torch.manual_seed(0)
    along, across = (
        torch.randn(200, 1) * torch.tensor([[3.0, 4.0]]),
        torch.randn(200, 1) * torch.tensor([[0.04, -0.03]]),
    )
    centre, direction = main_movement(along + across + 7)
    torch.testing.assert_close(centre, (along + across + 7).double().mean(0))
    torch.testing.assert_close(direction.abs(), torch.tensor([0.6, 0.8]).double(), atol=1e-3, rtol=0)


@pytest.mark.slow
def test_a_persons_video_has_landmarks_and_is_not_replaced(tmp_path):
    path = write_person(tmp_path, person=2, minutes=1 / 60, size=64)
    assert path == tmp_path / "M102" / "talk.mp4"
    assert len(path.with_suffix(".csv").read_text().splitlines()) == 26
    with pytest.raises(UserError, match="already exists"):
        write_person(tmp_path, person=2, minutes=1 / 60, size=64)
