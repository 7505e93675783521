"""Which devices PyTorch is asked for."""

import pytest
import torch

from smdguard.backends.torch import torch_device
from smdguard.errors import BackendError, InvalidInputError


@pytest.mark.parametrize("name", ["gpu", "mps", "cuda:", "cuda:x", "cuda:01", "CPU", ""])
def test_a_device_of_another_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidInputError, match=f"^device must be auto, cpu, cuda or cuda:INDEX, not '{name}'$"):
        torch_device(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:12"])
def test_a_gpu_is_given_where_there_is_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert torch_device(name) == torch.device(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BackendError, match=f"device '{name}' was asked for"):
        torch_device(name)


@pytest.mark.parametrize(("available", "device"), [(True, "cuda"), (False, "cpu")])
def test_auto_is_the_gpu_where_there_is_one(available: bool, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert torch_device("auto") == torch.device(device)
