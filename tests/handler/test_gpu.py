"""What can be told of a GPU without one, and what a real one says where there is one.

Fake tensors know shape, type and device and hold no numbers. Of a device that is not there they
refuse what a real one refuses: an operation whose tensors lie in two places. What a GPU computes,
they cannot say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from handler.network import Response
from handler.predictor import Predictor
from handler.response import polarity_log_probabilities
from handler.stimuli.faces.light import SIDES
from handler.stimuli.faces.search import FinishedSearch, no_faces
from handler.values.prediction import Prediction
from tests.shipped import ARCHIVE, REPOSITORY

pytestmark = pytest.mark.integration

GPU = torch.device("cuda", 0)
PICTURES = [torch.zeros(3, 300, side, dtype=torch.uint8) for side in (200, 400)]


class OneFaceEach(nn.Module):
    """Finds a face in every picture, as a network's answer would have to be read as numbers."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def start(self, images: Sequence[torch.Tensor]) -> FinishedSearch:
        found = no_faces(len(images))
        found.counts += 1
        return FinishedSearch(found)


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Predictor]:
    """The shipped model, its weights on a GPU in name only, on which every picture has a face."""
    predictor = Predictor.load(ARCHIVE, runtime="torch")
    monkeypatch.setattr(FakeTensor, "__bool__", lambda tensor: True)
    # Which rows have a face decides a shape, so shapes may be unknown.
    shapes = ShapeEnv()
    with FakeTensorMode(allow_non_fake_inputs=True, shape_env=shapes, static_shapes=True):
        # `Module.to` would ask for a real one.
        for module in (*predictor.network.modules(), *predictor.selector.modules()):
            for name, weight in list(module.named_parameters(recurse=False)):
                there = torch.empty(weight.shape, dtype=weight.dtype, device=GPU)
                setattr(module, name, nn.Parameter(there, requires_grad=False))
            for name, value in list(module.named_buffers(recurse=False)):
                there = torch.empty(value.shape, dtype=value.dtype, device=GPU)
                setattr(module, name, there)
        predictor.device = GPU
        predictor.selector.faces = OneFaceEach(predictor.selector.faces.network)
        yield predictor


def respond(predictor: Predictor) -> Response:
    with torch.inference_mode():
        return predictor.network(predictor.selector.select(PICTURES).to(predictor.device))


def test_all_that_is_computed_lies_on_the_gpu(on_gpu: Predictor) -> None:
    response = respond(on_gpu)
    log_p = response.log_probabilities
    assert log_p.device == GPU
    assert log_p.shape == (2, 8)
    assert polarity_log_probabilities(log_p.double(), on_gpu.wheel).device == GPU
    maps = on_gpu.network.activation_map(response, log_p.argmax(dim=1))
    assert maps is not None
    assert maps.device == GPU
    squares = torch.empty(2, 3, *SIDES["light"], dtype=torch.uint8, device=GPU)
    assert on_gpu.selector.faces.network(squares).device == GPU


@pytest.mark.parametrize(
    "part", ["network.response.classifier", "selector.objects.backbone.classifier"]
)
def test_a_part_that_stays_behind_is_noticed(on_gpu: Predictor, part: str) -> None:
    owner, _, name = part.partition(".")
    module = getattr(on_gpu, owner).get_submodule(name)
    module.weight = nn.Parameter(torch.empty(module.weight.shape), requires_grad=False)
    with pytest.raises(RuntimeError, match="two different devices"):
        respond(on_gpu)


def test_half_precision_says_much_the_same_for_the_same_reasons() -> None:
    single = Predictor.load(ARCHIVE, runtime="torch")
    half = copy(single)
    half.half = True  # the arithmetic of a GPU's half precision, on the CPU
    says_much_the_same(single, half, probability=0.01, activation=0.05)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("half", [False, True])
def test_a_real_gpu_says_much_the_same_for_the_same_reasons(half: bool) -> None:
    cpu = Predictor.load(ARCHIVE)
    gpu = Predictor.load(ARCHIVE, device="cuda:0", half=half)
    assert gpu.half == half
    says_much_the_same(cpu, gpu, probability=0.01, activation=0.05)


def says_much_the_same(
    first: Predictor, second: Predictor, *, probability: float, activation: float
) -> None:
    photos = REPOSITORY / "vea" / "photos"
    files = [(photos / name).read_bytes() for name in ("astronaut.jpg", "palace.jpg")]
    one, other = (predictor.predict(files, explain=True) for predictor in (first, second))
    for a, b in zip(one, other, strict=True):
        assert isinstance(a, Prediction)
        assert isinstance(b, Prediction)
        assert a.probabilities != b.probabilities
        assert b.probabilities == pytest.approx(a.probabilities, abs=probability)
        np.testing.assert_allclose(b.activation, a.activation, atol=activation)
