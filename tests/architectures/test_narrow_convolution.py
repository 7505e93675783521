"""The convolution of few channels against PyTorch's own, and where it is worth another way."""

import io
import weakref
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from smdguard.architectures import ARCHITECTURES, narrow_convolution
from smdguard.architectures.narrow_convolution import NarrowConvolution, _convolved, _Geometry

GEOMETRIES = [
    (_Geometry(size=5, padding=2, groups=1, block=4), 1, (8, 8)),
    (_Geometry(size=3, padding=1, groups=2, block=4), 1, (8, 4)),
    (_Geometry(size=3, padding=0, groups=2, block=2), 2, (6, 8)),
    (_Geometry(size=3, padding=1, groups=1, block=2), 3, (4, 4)),
    (_Geometry(size=5, padding=2, groups=3, block=4), 1, (8, 4)),
    (_Geometry(size=5, padding=0, groups=2, block=2), 3, (6, 8)),
]


def tensors(geometry: _Geometry, channels: int, image_size: tuple[int, int]) -> list[Tensor]:
    """Images, weights and biases of a convolution, in float64."""
    torch.manual_seed(0)
    num_outputs = 2 * geometry.groups
    shapes = [(2, channels * geometry.groups, *image_size), (num_outputs, channels, geometry.size, geometry.size)]
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in [*shapes, (num_outputs,)]]


def plain(x: Tensor, w: Tensor, b: Tensor | None, geometry: _Geometry) -> Tensor:
    return functional.conv2d(x, w, b, padding=geometry.padding, groups=geometry.groups)


def all_the_same(x: Tensor, groups: int) -> Tensor:
    """The first member's images for all."""
    return x.detach().chunk(groups, dim=1)[0].repeat(1, groups, 1, 1).requires_grad_()


@pytest.mark.parametrize("is_shared", [False, True], ids=["one for each", "the same for all"])
@pytest.mark.parametrize(("geometry", "channels", "image_size"), GEOMETRIES)
def test_values_and_derivatives_up_to_the_third_are_those_of_a_convolution(
    geometry: _Geometry, channels: int, image_size: tuple[int, int], is_shared: bool
) -> None:
    x, w, b = tensors(geometry, channels, image_size)
    if is_shared:
        x = all_the_same(x, geometry.groups)
    results = []
    for convolve in (_convolved, plain):
        output = convolve(x, w, b, geometry).sigmoid()
        first = torch.autograd.grad(output.sum(), (x, w, b), create_graph=True)
        second = torch.autograd.grad(sum(gradient.square().sum() for gradient in first), (x, w, b), create_graph=True)
        third = torch.autograd.grad(sum(gradient.square().sum() for gradient in second), (x, w, b))
        results.append([output, *first, *second, *third])
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-10)


def test_derivatives_are_those_of_finite_differences() -> None:
    geometry = _Geometry(size=3, padding=1, groups=1, block=2)
    inputs = tensors(geometry, 1, (4, 4))

    def convolve(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return _convolved(x, w, b, geometry)

    assert torch.autograd.gradcheck(convolve, inputs)
    assert torch.autograd.gradgradcheck(convolve, inputs)


@pytest.mark.parametrize(("wanted", "unwanted"), [(0, "conv2d_weight"), (1, "functional.pixel_shuffle")])
def test_a_gradient_that_nobody_wants_is_not_computed(
    wanted: int, unwanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    geometry, inputs = GEOMETRIES[0][0], tensors(*GEOMETRIES[0])
    output = _convolved(*inputs, geometry)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError(f"{unwanted} was called")

    monkeypatch.setattr(f"smdguard.architectures.narrow_convolution.{unwanted}", refuse)
    (gradient,) = torch.autograd.grad(output.sum(), inputs[wanted])
    monkeypatch.undo()
    (expected,) = torch.autograd.grad(plain(*inputs, geometry).sum(), inputs[wanted])
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("function", ["_plain_conv2d", "conv2d_weight"])
def test_images_that_are_the_same_for_all_are_convolved_with_all_kernels_at_once(
    function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    geometry, *sizes = GEOMETRIES[1]
    x, w, b = tensors(geometry, *sizes)
    seen = spied(function, monkeypatch)
    for images in (x, all_the_same(x, geometry.groups)):
        torch.autograd.grad(_convolved(images, w, b, geometry).sum(), w)
    assert [groups for _, groups in seen] == [geometry.groups, 1]


@pytest.mark.parametrize(("place", "is_padded"), [(0, False), (2, False), (3, False), (4, True), (5, True)])
def test_what_a_slow_kernel_would_take_for_colours_gets_another_channel(
    place: int, is_padded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    geometry, channels, image_size = GEOMETRIES[place]
    x, w, b = tensors(geometry, channels, image_size)
    seen = spied("conv2d_weight", monkeypatch)
    torch.autograd.grad(_convolved(x, w, b, geometry).sum(), w)
    assert [shape[1] for shape, _ in seen] == [channels + is_padded]


def spied(function: str, monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[int, ...], int]]:
    """Its second arguments' shapes, and the groups, of all calls to come."""
    seen: list[tuple[tuple[int, ...], int]] = []
    original = getattr(narrow_convolution, function)

    def spy(images: Tensor, weight: Any, *others: Any, **settings: int) -> Tensor:
        seen.append((tuple(getattr(weight, "shape", weight)), settings["groups"]))
        return original(images, weight, *others, **settings)

    monkeypatch.setattr(narrow_convolution, function, spy)
    return seen


@pytest.mark.parametrize("wanted", [0, 1, 2], ids=["images", "weights", "biases"])
def test_a_gradient_is_had_without_the_others(wanted: int) -> None:
    inputs = tensors(*GEOMETRIES[0])
    inputs = [tensor.requires_grad_(position == wanted) for position, tensor in enumerate(inputs)]
    gradients = [
        torch.autograd.grad(convolve(*inputs, GEOMETRIES[0][0]).square().sum(), inputs[wanted])
        for convolve in (_convolved, plain)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("channels", "image_size", "block"),
    [(1, (28, 28), 4), (1, (30, 28), 2), (1, (27, 28), 1), (3, (32, 32), 2), (6, (14, 14), 2), (7, (32, 32), 1)],
)
def test_blocks_tile_the_image_and_fit_into_a_vector(channels: int, image_size: tuple[int, int], block: int) -> None:
    convolution, images = NarrowConvolution(channels, 6, kernel_size=5), torch.rand(1, channels, *image_size)
    images.requires_grad_()
    assert convolution._block(images) == block
    assert convolution._block(images.detach()) == 1, "nobody asks for a gradient"
    assert convolution._block(images.double()) == 1, "kernels of 64 bits were not measured"
    with torch.autocast("cpu"):
        assert convolution._block(images) == 1, "kernels of 16 bits were not measured"


@pytest.mark.parametrize("image_size", [(28, 28), (27, 30)])
@pytest.mark.parametrize("num_images", [1, 3], ids=["one image for all", "one for each"])
def test_the_module_is_a_convolution_with_as_many_groups_as_images(
    num_images: int, image_size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    convolution = NarrowConvolution(3, 6, kernel_size=5, padding=2, groups=3)
    images = torch.rand(4, num_images, *image_size, requires_grad=True)
    output = convolution(images)
    expected = functional.conv2d(images, convolution.weight, convolution.bias, padding=2, groups=num_images)
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-6)
    wanted = [images, *convolution.parameters()]
    gradients = [torch.autograd.grad(result.square().sum(), wanted) for result in (output, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("image_size", [(28, 28), (27, 27)], ids=["in blocks", "pixel by pixel"])
def test_images_for_some_groups_alone_are_refused(image_size: tuple[int, int]) -> None:
    convolution = NarrowConvolution(3, 6, kernel_size=5, groups=3)
    with pytest.raises(RuntimeError, match="expected features of 3 channels, or of 1 for all groups, not of 2"):
        convolution(torch.zeros(4, 2, *image_size, requires_grad=True))


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 3, "padding": 1, "dilation": 2},
        {"kernel_size": 3, "padding": 1, "stride": 2},
        {"kernel_size": (3, 5), "padding": (1, 2)},
        {"kernel_size": 3, "padding": (1, 0)},
        {"kernel_size": 3, "padding": 3},
        {"kernel_size": 3, "padding": "same"},
        {"in_channels": 3, "kernel_size": 3},
    ],
    ids=str,
)
def test_other_convolutions_are_left_to_pytorch(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"in_channels": 1, "out_channels": 6} | settings
    convolution, plain_one = NarrowConvolution(**settings), nn.Conv2d(**settings)
    images = torch.rand(2, settings["in_channels"], 8, 8, requires_grad=True)
    monkeypatch.delattr("smdguard.architectures.narrow_convolution._convolved")
    plain_one.load_state_dict(convolution.state_dict())
    gradients = [torch.autograd.grad(module(images).square().sum(), images) for module in (convolution, plain_one)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-5)


def test_weights_that_were_changed_before_the_backward_pass_are_refused() -> None:
    convolution, images = NarrowConvolution(1, 6, kernel_size=3), torch.rand(2, 1, 8, 8, requires_grad=True)
    output = convolution(images)
    with torch.no_grad():
        convolution.weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(output.sum(), images)


def test_a_backward_pass_lets_go_of_images_and_weights() -> None:
    convolution, leaf = NarrowConvolution(1, 6, kernel_size=3), torch.rand(2, 1, 8, 8, requires_grad=True)
    images = leaf * 2
    output = convolution(images)
    held = weakref.ref(images)
    del images
    output.sum().backward()
    assert held() is None


def test_the_output_can_be_changed_in_place() -> None:
    convolution, images = NarrowConvolution(1, 6, kernel_size=3), torch.rand(2, 1, 8, 8, requires_grad=True)
    wanted = [images, *convolution.parameters()]
    gradients = [
        torch.autograd.grad(functional.relu(convolution(images), inplace=inplace).square().sum(), wanted)
        for inplace in (True, False)
    ]
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


def test_a_backward_pass_under_autocast_keeps_to_32_bits() -> None:
    convolution, images = NarrowConvolution(1, 6, kernel_size=3, padding=1), torch.rand(2, 1, 8, 8, requires_grad=True)
    results = []
    for enabled in (True, False):
        output, cotangent = convolution(images), torch.ones(2, 6, 8, 8, requires_grad=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            first = torch.autograd.grad(output, [images, convolution.weight], cotangent, create_graph=True)
            second = torch.autograd.grad(sum(gradient.square().sum() for gradient in first), cotangent)
        results.append([*first, *second])
    torch.testing.assert_close(*results, rtol=0, atol=0)


@pytest.mark.parametrize("mapped", [(0, None, None), (None, 0, None), (None, None, 0), (0, 0, 0)], ids=str)
def test_vmap_goes_over_any_of_images_weights_and_biases(mapped: tuple[int | None, ...]) -> None:
    inputs = [
        torch.stack([tensor, 2 * tensor]).detach().requires_grad_() if dim == 0 else tensor
        for tensor, dim in zip(tensors(*GEOMETRIES[2]), mapped, strict=True)
    ]
    results = []
    for convolve in (_convolved, plain):
        output = torch.func.vmap(partial(convolve, geometry=GEOMETRIES[2][0]), in_dims=mapped)(*inputs)
        first = torch.autograd.grad(output.sigmoid().sum(), inputs, create_graph=True)
        second = torch.autograd.grad(sum(gradient.square().sum() for gradient in first), inputs)
        results.append([output, *first, *second])
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-10)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", ["lenet", "lenet-wide"])
def test_a_trace_with_images_that_want_a_gradient_can_be_saved(name: str) -> None:
    network, images = ARCHITECTURES[name]((2, 12, 12), 4).eval(), torch.rand(3, 2, 12, 12)
    leaf = images.to(memory_format=torch.channels_last).requires_grad_()
    torch.jit.save(trace := torch.jit.trace(network, leaf), io.BytesIO())
    torch.testing.assert_close(trace(images), network(images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["lenet", "lenet-wide"])
def test_networks_go_through_the_transformations_of_torch_func(name: str) -> None:
    torch.manual_seed(0)
    network, images = ARCHITECTURES[name]((1, 12, 12), 4).eval(), torch.rand(3, 1, 12, 12)
    leaf = images.clone().requires_grad_()
    rows = [torch.autograd.grad(network(leaf)[:, k].sum(), leaf)[0] for k in range(4)]
    jacobians = torch.func.vmap(torch.func.jacrev(lambda image: network(image[None])[0]))(images)
    torch.testing.assert_close(jacobians, torch.stack(rows, dim=1), rtol=1e-4, atol=1e-6)
