"""An ensemble as one ONNX file that needs nothing else."""

import copy
import json
import warnings
from collections.abc import Sequence

import onnx
import torch
from torch import Tensor, nn

from smdguard.ensemble import Ensemble
from smdguard.log_levels import errors_alone
from smdguard.onnx_stem import merge_first_convolutions
from smdguard.scores import average_log_probabilities, member_log_probabilities

OPSET = 20


class _BothOutputs(nn.Module):
    def __init__(self, ensemble: Ensemble) -> None:
        super().__init__()
        self.ensemble = ensemble

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        normalised = self.ensemble.normalise(images)
        # One by one: how members run side by side is PyTorch's matter.
        members = member_log_probabilities(torch.stack([member(normalised) for member in self.ensemble.members]))
        return average_log_probabilities(members), members


def to_onnx(ensemble: Ensemble, image_shape: tuple[int, int, int], labels: Sequence[str]) -> bytes:
    """Export an ensemble to ONNX; two exports of one ensemble are equal byte for byte.

    The graph takes `images` (B, C, H, W) in [0, 1], normalisation included, and gives `log_probabilities` (B, K) and
    `member_log_probabilities` (B, M, K), for any B. The labels are in the metadata, as JSON under "labels".

    Args:
        ensemble: In evaluation mode.
        image_shape: Channels, height and width.
        labels: Name of each class.
    """
    # Of its own memory format, or the file would depend on where the weights came from.
    ensemble = copy.deepcopy(ensemble).cpu().to(memory_format=torch.contiguous_format)
    with warnings.catch_warnings(), errors_alone("torch.onnx"):
        warnings.simplefilter("ignore")  # The exporter warns of its own internals.
        program = torch.onnx.export(
            _BothOutputs(ensemble).eval(),
            (torch.zeros(2, *image_shape),),
            input_names=["images"],
            output_names=["log_probabilities", "member_log_probabilities"],
            dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1)}},
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise TypeError("torch.onnx.export gives a program only with dynamo=True")
    model = program.model_proto
    _strip(model)
    merge_first_convolutions(model)
    onnx.helper.set_model_props(model, {"labels": json.dumps(list(labels))})
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def _strip(model: onnx.ModelProto) -> None:
    """Remove the exporter's stack traces and names of modules: they leak paths and change from run to run."""
    del model.metadata_props[:]
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
