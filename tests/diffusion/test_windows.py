"""Overlapped windows: coverage of every frame, and fusion of framewise and windowed functions."""

import pytest
import torch

from diffusion.windows import fuse_windows, triangular_weights, window_starts


@pytest.mark.parametrize("length", [1, 2, 7, 120])
def test_weights_are_a_symmetric_triangle(length):
    weights = triangular_weights(length)
    torch.testing.assert_close(weights, weights.flip(0))
    assert weights.min().item() == pytest.approx(1 / length)
    assert weights.max() <= 1


@pytest.mark.parametrize("total", [*range(1, 60), 250, 1500])
@pytest.mark.parametrize(("window", "overlap"), [(24, 5), (10, 0), (10, 9)])
def test_every_frame_is_covered_and_the_last_window_ends_with_the_sequence(total, window, overlap):
    starts = window_starts(total, window, overlap)
    assert set(range(total)) <= {frame for start in starts for frame in range(start, start + window)}
    assert starts == sorted(set(starts))
    if total > window:
        assert starts[-1] == total - window
        assert all(b - a <= window - overlap for a, b in zip(starts, starts[1:], strict=False))


def test_a_minute_has_sixteen_windows_in_the_papers_setting():
    assert len(window_starts(1500, 120, 24)) == 16


@pytest.mark.parametrize("total", [3, 10, 11, 37])
def test_a_framewise_function_is_reproduced(total):
    x = torch.randn(3, total, 4)
    out = fuse_windows(lambda part, where: part.square() + 1, x, window=10, overlap=3)
    torch.testing.assert_close(out, x.square() + 1)


def test_windows_receive_their_slice_and_are_blended():
    seen = []

    def number(part, where):
        seen.append((where.start, where.stop))
        return torch.full_like(part, float(len(seen)))

    out = fuse_windows(number, torch.zeros(1, 16, 1), window=10, overlap=4).flatten()
    assert seen == [(0, 10), (6, 16)]
    assert out[:6].tolist() == [1] * 6
    assert out[10:].tolist() == [2] * 6
    assert (out[5:11].diff() > 0).all()


def test_results_may_have_another_shape():
    out = fuse_windows(lambda part, where: part.sum(-1, keepdim=True), torch.ones(2, 25, 7), window=10, overlap=2)
    torch.testing.assert_close(out, torch.full((2, 25, 1), 7.0))


@pytest.mark.parametrize("overlap", [-1, 10, 11])
def test_an_overlap_out_of_range_is_rejected(overlap):
    with pytest.raises(ValueError, match="overlap"):
        window_starts(50, 10, overlap)
