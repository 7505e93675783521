"""Which devices PyTorch is asked for."""

import pytest
import torch

from smdguard.backends.torch import torch_device
from smdguard.errors import BackendError, InvalidInputError


@pytest.mark.parametrize("name", ["gpu", "mps", "cuda:0", "CPU", ""])
def test_a_device_of_another_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidInputError, match=f"^device must be auto, cpu or cuda, not '{name}'$"):
        torch_device(name)


def test_a_gpu_is_given_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert torch_device("cuda") == torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BackendError, match="device 'cuda' was asked for"):
        torch_device("cuda")


@pytest.mark.parametrize(("available", "device"), [(True, "cuda"), (False, "cpu")])
def test_auto_is_the_gpu_where_there_is_one(available: bool, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert torch_device("auto") == torch.device(device)
