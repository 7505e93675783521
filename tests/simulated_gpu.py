"""A GPU in name only, for machines without one: its tensors are computed by the processor, and refuse to be mixed.

PyTorch takes them to be on "meta", a device without values, for which it needs no driver. Whoever asks is told that
they are on "cuda:0". What it shows is where tensors are, and how often they travel; not what a GPU's own kernels do.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

GPU = torch.device("cuda", 0)
_NOWHERE = torch.device("meta")
_aten = torch.ops.aten
_TRANSFERS = {_aten._to_copy.default, _aten.copy_.default}
_INDEXED = {_aten.index, _aten.index_put, _aten.index_put_, _aten._index_put_impl_}
# What they give is a number, or as large as one that has to be known.
_FETCHED = {_aten._local_scalar_dense, _aten.equal, _aten.allclose, _aten.nonzero, _aten.masked_select, _aten._unique2}
_PLAIN_GENERATOR = torch.Generator


class _GpuTensor(Tensor):
    """A tensor of the GPU, with its values."""

    # Functions for arrays of any library ask for it.
    __module__ = "torch"
    values: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> "_GpuTensor":
        made = Tensor._make_wrapper_subclass(
            cls, values.shape, values.stride(), values.storage_offset(), dtype=values.dtype, device=_NOWHERE
        )
        made.values = values
        return made

    @property
    def device(self) -> torch.device:
        return GPU

    @property
    def is_cuda(self) -> bool:
        return True

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self, **_: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    __array__ = numpy

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError("a tensor outlives its GPU")


class Traffic(TorchDispatchMode):
    """Computes what GPU tensors are given to, and counts what the processor has to wait for.

    Attributes:
        num_to_cpu: Tensors and numbers that were fetched, the sizes of what masks select among them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.num_to_cpu = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        ours = [tensor for tensor in _tensors_in((args, kwargs)) if isinstance(tensor, _GpuTensor)]
        is_ours = _is_result_ours(func, args, kwargs, bool(ours))
        _require_one_place(func, args, kwargs)
        self.num_to_cpu += bool(ours) and (not is_ours or func.overloadpacket in _FETCHED or _has_mask(func, args))
        if kwargs.get("device") is not None:
            kwargs = kwargs | {"device": torch.device("cpu")}
        args, kwargs = _changed((args, kwargs), _GpuTensor, lambda tensor: tensor.values)
        result = func(*args, **kwargs)
        return _changed(result, Tensor, lambda values: _wrapped(func, values, ours)) if is_ours else result


def _changed(values: Any, kind: type | tuple[type, ...], change: Callable[[Any], object]) -> Any:
    """The same, with all of a kind changed; PyTorch's own function for that takes most of a test's time."""
    if isinstance(values, kind):
        return change(values)
    if isinstance(values, dict):
        return {key: _changed(value, kind, change) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return type(values)([_changed(value, kind, change) for value in values])
    return values


def _is_result_ours(func: Any, args: Any, kwargs: Any, is_given_ours: bool) -> bool:
    if func is _aten.copy_.default:
        return isinstance(args[0], _GpuTensor)
    device = kwargs.get("device")
    return is_given_ours if device is None else device == _NOWHERE


def _require_one_place(func: Any, args: Any, kwargs: Any) -> None:
    # A GPU takes indices from the processor.
    if func.overloadpacket in _INDEXED and isinstance(args[0], _GpuTensor):
        args = (args[0], *args[2:])
    # As on a GPU, a number of the processor's may go with tensors of any device.
    places = {type(tensor) for tensor in _tensors_in((args, kwargs)) if tensor.dim() or isinstance(tensor, _GpuTensor)}
    if len(places) > 1 and _GpuTensor in places and func not in _TRANSFERS:
        raise RuntimeError(f"expected all tensors of {func} to be on the same device, found cuda:0 and cpu")


def _has_mask(func: Any, args: Any) -> bool:
    return func.overloadpacket in _INDEXED and any(index.dtype == torch.bool for index in _tensors_in(args[1]))


def _tensors_in(values: Any) -> list[Tensor]:
    found: list[Tensor] = []
    _changed(values, Tensor, found.append)
    return found


def _wrapped(func: Any, values: Tensor, ours: list[_GpuTensor]) -> Tensor:
    """The GPU tensor of these values: one that was changed in place is still the same."""
    for tensor in ours:
        if tensor.values is values:
            return tensor
    # A view of a tensor from before inference mode is none of that mode's, either.
    is_view = any(result.alias_info is not None for result in func._schema.returns)
    is_older = is_view and not any(tensor.is_inference() for tensor in ours)
    with torch.inference_mode(torch.is_inference_mode_enabled() and not is_older):
        return _GpuTensor(values)


class _Names(TorchFunctionMode):
    """Tells PyTorch "meta" where it is told "cuda", and holds generators to their device."""

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if (generator := kwargs.get("generator")) is not None:
            tensors = _tensors_in(args)
            place = kwargs.get("device") or (tensors[0].device if tensors else "cpu")
            if generator.is_of_gpu != _is_gpu(place):
                raise RuntimeError(f"expected a generator of the device of what {func} draws")
        if func in (torch.tensor, torch.as_tensor) and _is_gpu(kwargs.get("device")):
            return func(*args, **kwargs | {"device": "cpu"}).to(_NOWHERE)
        if func is not torch.device:
            args, kwargs = _changed((args, kwargs), (str, torch.device), lambda it: _NOWHERE if _is_gpu(it) else it)
        return func(*args, **kwargs)


def _is_gpu(device: object) -> bool:
    return str(device).partition(":")[0] == "cuda"


class _Generator(_PLAIN_GENERATOR):
    """A generator of the processor's that knows what device it is for."""

    def __new__(cls, device: object = "cpu") -> "_Generator":
        made = super().__new__(cls)
        made.is_of_gpu = _is_gpu(device)
        return made

    def __init__(self, device: object = "cpu") -> None:
        pass


@contextmanager
def simulated_gpu() -> Iterator[Traffic]:
    """A machine with a GPU, until the end of the block, which its tensors do not outlive."""
    answers: dict[str, Any] = {
        "is_available": True,
        "is_bf16_supported": True,
        "device_count": 1,
        "current_device": 0,
        "is_current_stream_capturing": False,
        "get_device_name": "a GPU in name only",
        "empty_cache": None,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, answer in answers.items():
            patch.setattr(torch.cuda, name, lambda *_, answer=answer: answer)
        patch.setattr(torch.cuda, "default_generators", (torch.default_generator,))
        patch.setattr(torch.cuda, "get_rng_state", lambda _: torch.get_rng_state())
        patch.setattr(torch.cuda, "set_rng_state", lambda state, _: torch.set_rng_state(state))
        patch.setattr(torch, "Generator", _Generator)
        # It asks the driver; older versions of PyTorch have none.
        patch.setattr(torch.optim.Optimizer, "_accelerator_graph_capture_health_check", lambda _: None, raising=False)
        with Traffic() as traffic, _Names():
            yield traffic
