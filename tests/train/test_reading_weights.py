"""Foreign files are opened without running what is in them."""

from __future__ import annotations

import io
import os
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from train.weights import WeightsError
from train.weights.reading import read_checkpoint


class Malice:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"mkdir {self.mark}",)


def test_malice_in_a_pickle_does_not_run(tmp_path: Path) -> None:
    mark, file = tmp_path / "mark", tmp_path / "weights.pkl"
    file.write_bytes(pickle.dumps({"model": {"a": np.ones(2)}, "b": Malice(mark)}))
    with pytest.raises(WeightsError, match=r"asks for 'posix.system'.*nothing of it was run"):
        read_checkpoint(file)
    assert not mark.exists()
    pickle.loads(file.read_bytes())
    assert mark.exists(), "read carelessly, it would have run"


@pytest.mark.parametrize("zipped", [True, False])
def test_malice_in_a_torch_file_does_not_run(zipped: bool, tmp_path: Path) -> None:
    mark, file = tmp_path / "mark", tmp_path / "weights.pth"
    content = {"net": {"a": torch.ones(2)}, "b": Malice(mark)}
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"asks for 'posix.system'.*nothing of it was run") as e:
        read_checkpoint(file)
    assert "\n" not in str(e.value)
    assert not mark.exists()
    torch.load(file, weights_only=False)
    assert mark.exists(), "read carelessly, it would have run"


@pytest.mark.parametrize(
    "asked",
    [
        b"cbuiltins\neval\n",
        b"cnumpy\nload\n",
        b"cnumpy.core.multiarray\nfromfile\n",
        b"\x8c\x05numpy\x8c\x0endarray.tofile\x93",
        b"ccollections\ndeque\n",
    ],
)
def test_names_beyond_arrays_and_containers_are_refused(asked: bytes, tmp_path: Path) -> None:
    file = tmp_path / "weights.pkl"
    file.write_bytes(b"\x80\x04" + asked + b".")
    with pytest.raises(WeightsError, match="which weights do not need"):
        read_checkpoint(file)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_come_back_whatever_the_protocol(protocol: int, tmp_path: Path) -> None:
    content = {
        "model": OrderedDict(
            floats=np.arange(6, dtype=np.float32).reshape(2, 3),
            turned=np.arange(6.0).reshape(2, 3).T,
            counts=np.array([1, 2], dtype=">i8"),
            number=np.array(7),
        ),
        "accuracy": np.float64(0.7),
        "author": "somebody",
    }
    file = tmp_path / "weights.pkl"
    file.write_bytes(pickle.dumps(content, protocol=protocol))
    found = read_checkpoint(file)
    assert found.tensors.keys() == content["model"].keys()
    for name, value in content["model"].items():
        assert np.array_equal(found.tensors[name].numpy(), value)
    assert found.beside == ("accuracy", "author")


def test_arrays_that_python_2_pickled_come_back(tmp_path: Path) -> None:
    # Opcodes as Python 2 and NumPy 1 wrote them: bytes above 127 in a string (U).
    data = np.array([1.5, -2.0], dtype="<f4").tobytes()
    file = tmp_path / "weights.pkl"
    file.write_bytes(
        b"\x80\x02}U\x05model}U\x01a"
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
        b"(K\x01K\x02\x85cnumpy\ndtype\n(U\x02f4K\x00K\x01tR"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"U\x08" + data + b"tbss."
    )
    assert read_checkpoint(file).tensors["a"].tolist() == [1.5, -2.0]


def test_numbers_of_numpy_beside_tensors_do_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save({"net": {"a": torch.ones(2)}, "best": np.float64(3), "list": np.ones(2)}, file)
    assert read_checkpoint(file).beside == ("best", "list")


def saved(kind: str) -> bytes:
    if kind == "pickle":
        return pickle.dumps({"model": {"a": np.random.default_rng(0).random(1000)}})
    if kind == "safetensors":
        from safetensors.torch import save  # noqa: PLC0415

        return save({"a": torch.rand(1000)})
    buffer = io.BytesIO()
    torch.save({"a": torch.rand(1000)}, buffer, _use_new_zipfile_serialization=kind == "zip")
    return buffer.getvalue()


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
@pytest.mark.parametrize("kind", ["pickle", "safetensors", "zip", "legacy"])
def test_a_truncated_file_is_one_line(kind: str, share: float, tmp_path: Path) -> None:
    file, content = tmp_path / "weights", saved(kind)
    file.write_bytes(content)
    assert read_checkpoint(file).tensors["a"].shape == (1000,)
    file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(WeightsError) as error:
        read_checkpoint(file)
    assert "\n" not in str(error.value)
    assert str(file) in str(error.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><title>404</title>" * 3, "is text"),
        (b"\x00\x01\x02\x03" * 99, "unknown format"),
        (pickle.dumps([1, 2]), "holds a list, not tensors with names"),
        (pickle.dumps({"model": {"a": 1}}), "holds no tensors with names"),
    ],
)
def test_what_is_no_weights_file_is_refused_with_what_is_expected(
    content: bytes, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(content)
    with pytest.raises(WeightsError, match=f"{said}.*: expected a PyTorch file"):
        read_checkpoint(file)


def test_an_absent_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"cannot read .*weights.pth: No such file"):
        read_checkpoint(tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=r"cannot read .*: Is a directory"):
        read_checkpoint(tmp_path)
