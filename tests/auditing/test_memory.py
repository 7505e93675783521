"""Audits that run short of memory ask about fewer images at a time, with the same results."""

import pytest
import torch
from torch import Tensor

from smdguard.attacks import FGSM
from smdguard.auditing import audit
from smdguard.ensemble import Ensemble
from smdguard.errors import InvalidInputError
from smdguard.threat import ThreatModel
from tests.auditing.small_ensembles import ensemble, run

pytestmark = pytest.mark.usefixtures("short_query")


class Short(Ensemble):
    """Has memory for so many images at a time."""

    limit = 16

    def member_logits(self, images: Tensor) -> Tensor:
        if len(images) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().member_logits(images)


def test_a_processor_is_not_asked_about_many_large_images_at_a_time() -> None:
    """A system kills who asks for more memory than there is, so that nobody could ask for less then."""
    asked: list[int] = []

    def model(images: Tensor) -> Tensor:
        asked.append(len(images))
        return images.mean(dim=(2, 3))

    images = torch.rand(30, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    audit(model, images, torch.arange(30) % 3, ThreatModel("linf", 0.1), attacks=[FGSM()])
    assert max(asked) == 13


def test_results_do_not_depend_on_the_memory() -> None:
    short = Short(list(ensemble().members), mean=[0.5], std=[0.5]).eval()
    report, expected = (run(model, store={}, suspicion_threshold=0.02) for model in (short, ensemble()))
    assert report.attacks == expected.attacks
    assert report.transfer == expected.transfer
    assert report.findings == expected.findings
    assert report.suspicion is not None
    assert report.suspicion == expected.suspicion
    assert report.exhibits is not None
    assert expected.exhibits is not None
    assert report.exhibits.gallery == expected.exhibits.gallery
    assert report.exhibits.saliency == expected.exhibits.saliency != ()
    scores, expected_scores = report.exhibits.disagreement, expected.exhibits.disagreement
    assert scores is not None
    assert expected_scores is not None
    assert scores.clean == pytest.approx(expected_scores.clean, abs=1e-5)
    assert scores.adversarial == pytest.approx(expected_scores.adversarial, abs=1e-5)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
    ids=["python", "cublas", "cudnn"],
)
def test_what_runs_short_of_memory_is_asked_about_less(error: Exception) -> None:
    def model(images: Tensor) -> Tensor:
        if len(images) > 100:
            raise error
        return ensemble()(images)

    assert run(model, attacks=[FGSM()]).attacks == run(lambda images: ensemble()(images), attacks=[FGSM()]).attacks


def test_too_little_memory_for_one_image_is_said() -> None:
    calls = iter(range(100))

    def model(images: Tensor) -> Tensor:
        if next(calls) > 2:  # The first calls are of two images.
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes")
        return ensemble()(images)

    with pytest.raises(InvalidInputError, match="not enough memory for a single image"):
        run(model)


def test_other_errors_of_a_model_are_not_taken_for_lack_of_memory() -> None:
    def model(images: Tensor) -> Tensor:
        if len(images) > 2:
            raise RuntimeError("shapes do not match")
        return ensemble()(images)

    with pytest.raises(RuntimeError, match="shapes do not match"):
        run(model)
