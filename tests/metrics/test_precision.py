"""Networks run without TF32 in matrix products, whatever the user has set."""

import torch

from metrics.networks.precision import full_precision


def test_matrix_products_have_full_precision():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        assert full_precision(torch.get_float32_matmul_precision)() == "highest"
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
