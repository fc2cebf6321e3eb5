"""The memory claim, counted without such a GPU: 120 frames at 512 px train within 60 GiB."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from runtime.peak_memory import GIB, PeakMemory
from tools.profiling.step_memory import fits, sides
from training.memory import AVERAGE, MOMENTS, StepMemory, training_step


@pytest.mark.nightly
def test_a_step_of_the_paper_fits_in_60_gib():
    step = training_step(512, 120)
    assert step.peak < 60 * GIB  # including weights and gradients in bfloat16
    assert step.peak > 2 * 2 * step.parameters  # at least weights and gradients
    assert "80" in fits(step.on_gpu(2))
    mixed = training_step(512, 120, mixed=True)
    assert mixed.peak - step.peak > 2 * 2 * step.parameters  # float32 weights and gradients
    assert mixed.on_gpu(MOMENTS + AVERAGE) < 75 * GIB


@pytest.mark.parametrize("fake", [False, True])
def test_the_count_is_that_of_live_tensors(fake):
    with FakeTensorMode(allow_non_fake_inputs=True) if fake else torch.enable_grad(), PeakMemory() as memory:
        a = torch.zeros(1000)
        assert memory.now == 4000
        view = a[10:].view(10, -1)
        assert memory.now == 4000
        b = a + 1
        assert memory.now == 8000
        del a, b
        assert memory.now == 4000  # the view holds its storage
        del view
        assert memory.now == 0
        assert memory.peak == 8000


def test_activations_for_backward_are_counted():
    weight = torch.randn(100, 100, requires_grad=True)
    with PeakMemory() as memory:
        hidden = torch.randn(50, 100)
        for _ in range(10):
            hidden = torch.sin(hidden @ weight)  # sin keeps its input, and so does the product
        held = memory.now
        hidden.sum().backward()
    assert held == 4 * 50 * 100 * 21  # without the weight, which existed before


def test_states_and_allowances_are_added():
    step = StepMemory(peak=10 * GIB, parameters=GIB)
    assert step.on_gpu(12) == pytest.approx((10 + 12) * 1.05 * GIB + 2 * GIB)
    assert fits(23 * GIB) == "24 48 80 141"
    assert fits(24 * GIB) == "48 80 141"
    assert fits(200 * GIB) == "none"


def test_a_side_the_network_cannot_halve_is_refused():
    assert sides("512,64") == [512, 64]
    with pytest.raises(ValueError, match="expected multiples of 64"):
        sides("500")
