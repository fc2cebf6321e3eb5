"""Networks run without TF32 in matrix products, whatever the user has set, also in threads."""

import threading

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


def test_the_end_of_one_network_does_not_change_the_precision_of_another():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    begun, ended, found = threading.Event(), threading.Event(), []

    @full_precision
    def short():
        begun.set()
        ended.wait(0.5)  # time for the other one to begin, if it does not wait

    @full_precision
    def long():
        ended.set()
        first.join(0.5)
        found.append(torch.get_float32_matmul_precision())

    try:
        first = threading.Thread(target=short)
        first.start()
        begun.wait()
        long()
        assert found == ["highest"]
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        first.join()
        torch.set_float32_matmul_precision(before)
