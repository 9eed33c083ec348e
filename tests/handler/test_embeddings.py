"""The network's fused feature, beside the prediction that the classifier makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from handler.archive.files import read_card
from handler.network import StimuliAwareNetwork
from handler.predictor import Predictor
from handler.values.configs import NetworkConfig, SemanticConfig
from tests.program import vea


@pytest.fixture(scope="module")
def images(photo, encode, portrait) -> list[bytes]:
    """Pictures without a face, one with a face, and one that is refused."""
    return [*(encode(photo(seed), "PNG") for seed in range(3)), encode(portrait, "JPEG"), b"none"]


@pytest.mark.parametrize("runtime", ["torch", "onnx"])
def test_the_classifier_makes_the_prediction_of_the_embedding(
    compiled_model: Path, images: list[bytes], runtime: str
) -> None:
    predictor = Predictor.load(compiled_model, runtime=runtime)
    *answers, refused = predictor.predict(images, embeddings=True)
    assert not hasattr(refused, "embedding")
    size = read_card(compiled_model)[0].network.fused_size
    for answer in answers:
        assert len(answer.embedding) == size
        with torch.inference_mode():
            logits = predictor.network.response.classifier(torch.tensor([answer.embedding]))
        found = logits.softmax(dim=1)[0].tolist()
        assert found == pytest.approx(list(answer.probabilities.values()), abs=1e-3)


def test_embeddings_take_no_second_pass_and_change_no_prediction(
    tiny_model: Path, images: list[bytes]
) -> None:
    predictor = Predictor.load(tiny_model)
    passes: list[int] = []
    predictor.network.register_forward_hook(lambda *_: passes.append(1))
    plain = predictor.predict(images)
    assert len(passes) == 1
    with_embeddings = predictor.predict(images, embeddings=True)
    assert len(passes) == 2
    for one, other in zip(plain[:-1], with_embeddings[:-1], strict=True):
        assert one.embedding is None
        assert "embedding" not in one.to_dict(predictor.model)
        document = other.to_dict(predictor.model)
        assert document.pop("embedding") == list(other.embedding)
        assert document == one.to_dict(predictor.model)


def test_values_beyond_half_precision_stay_finite(tiny_model: Path, images: list[bytes]) -> None:
    predictor = Predictor.load(tiny_model)
    predictor.network.global_net.register_forward_hook(lambda _m, _i, out: (out[0] * 1e9, out[1]))
    (answer,) = predictor.predict(images[:1], embeddings=True)
    assert max(answer.embedding) == torch.finfo(torch.float16).max


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"global_backbone": "resnet18"},
        {"global_backbone": None},
        {"semantic": None},
        {"semantic": SemanticConfig(hidden=24)},
        {"expression_width": None},
        {"expression_width": 4},
    ],
)
def test_the_size_is_known_without_a_network(changed: dict[str, object]) -> None:
    config = NetworkConfig(
        **{"global_backbone": "resnet18", "object_features": 8, "expression_width": 8, **changed}
    )
    assert config.fused_size == StimuliAwareNetwork(config).response.classifier.in_features


def test_predict_prints_embeddings_as_json_only(
    tiny_model: Path, images: list[bytes], tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(images[0])
    command = ["predict", tmp_path / "a.png", "--model", tiny_model]
    (document,) = json.loads(vea(*command, "--json", "--embeddings").stdout)
    (expected,) = Predictor.load(tiny_model).predict(images[:1], embeddings=True)
    assert document["embedding"] == list(expected.embedding)
    refused = vea(*command, "--embeddings")
    assert refused.returncode == 2
    assert "--json" in refused.stderr
