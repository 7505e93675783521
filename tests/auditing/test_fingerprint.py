"""What a report says of the machine that made it."""

import pytest
import torch

from smdguard.auditing.fingerprint import describe_device


@pytest.mark.parametrize(("num_threads", "threads"), [(1, "1 thread"), (8, "8 threads")])
def test_a_cpu_is_described_by_what_its_last_digits_depend_on(
    monkeypatch: pytest.MonkeyPatch, num_threads: int, threads: str
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: num_threads)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert describe_device(torch.device("cpu")) == f"cpu with AVX2, {threads}"


def test_other_devices_are_not_credited_with_what_the_cpu_can_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"a card, {device}")
    assert describe_device(torch.device("cuda", 1)) == "a card, cuda:1"
    assert describe_device(torch.device("mps")) == "mps"
