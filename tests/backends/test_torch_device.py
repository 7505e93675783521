"""Which devices PyTorch is asked for."""

from collections.abc import Callable

import pytest
import torch

from smdguard.backends.torch import torch_device
from smdguard.errors import BackendError, InvalidInputError

_SetGpu = Callable[..., None]


@pytest.fixture
def set_gpu(monkeypatch: pytest.MonkeyPatch) -> _SetGpu:
    """Lets PyTorch find a GPU or none, and compute with it or not."""

    def set_it(*, found: bool, computes: bool) -> None:
        def ones(*_: object, device: str) -> torch.Tensor:
            assert device == "cuda"
            if not computes:
                raise RuntimeError("CUDA error: no kernel image is available for execution on the device")
            return torch.tensor([1.0])

        monkeypatch.setattr(torch.cuda, "is_available", lambda: found)
        monkeypatch.setattr(torch, "ones", ones)

    return set_it


@pytest.mark.parametrize("name", ["gpu", "mps", "cuda:0", "CPU", ""])
def test_a_device_of_another_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidInputError, match=f"^the device must be auto, cpu or cuda, not '{name}'$"):
        torch_device(name)


def test_a_gpu_is_given_where_there_is_one_to_compute_with(set_gpu: _SetGpu) -> None:
    set_gpu(found=True, computes=True)
    assert torch_device("cuda") == torch_device("auto") == torch.device("cuda")
    assert torch_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("found", [False, True], ids=["none", "too-old"])
def test_a_gpu_that_cannot_be_used_is_none(set_gpu: _SetGpu, found: bool) -> None:
    set_gpu(found=found, computes=False)
    assert torch_device("auto") == torch.device("cpu")
    with pytest.raises(BackendError, match="device 'cuda' was asked for"):
        torch_device("cuda")
