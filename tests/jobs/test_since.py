"""Answers of earlier runs are copied, on local files, which are known by their bytes."""

import dataclasses
import json
import os
import tempfile
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from text_model import TextModel

from handler.values.errors import VeaError
from handler.values.prediction import ModelIdentity, Prediction
from jobs.output.consulted import ConsultedError
from jobs.output.delta import commit_run
from jobs.output.delta_answers import runs_of
from jobs.output.earlier_files import remove_earlier
from jobs.run.driver import score_list
from jobs.run.plan import plan_run
from jobs.scoring.sources import source_of
from jobs.storage.stores import Stores
from jobs.values.chunks import RunIdentity
from jobs.values.job import ScoreJob
from tests.jobs.run_files import Broken, break_after, manifest_of


@pytest.fixture
def night(tmp_path, archive, monkeypatch):
    """Makes the job of a night, whose photos have the given numbers as texts."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def make(name, numbers, **options):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True, exist_ok=True)
        for number in numbers:
            text = f"bad {number}" if number % 5 == 4 else f"photo {number}"
            (folder / f"{number}.jpg").write_text(text)
        (folder / "list.txt").write_text("".join(f"{number}.jpg\n" for number in numbers))
        given = {"chunk_size": 3, "content_hash": True, **options}
        out = tmp_path / "results" / f"dt={name}"
        return ScoreJob(str(folder / "list.txt"), str(out), archive, **given)

    return make


@pytest.fixture
def root(tmp_path):
    return str(tmp_path / "results")


def score(job, model=None, **options):
    model = model or TextModel()
    model.model = source_of(job, model.load).identify()[0]  # rows name what the manifest names
    summary = score_list(job, load=model.load, **options)
    return summary, sorted(int(text.split()[-1]) for text in model.scored)


def rows_of(job):
    return pq.ParquetFile(Path(job.out) / "images-00000.parquet").read().to_pylist()


def but_for_provenance(rows):
    return [{k: v for k, v in row.items() if k not in ("run_id", "scored_by_run")} for row in rows]


def test_only_new_photos_are_scored_and_the_others_say_which_run_scored_them(night, root, tmp_path):
    first = night("1", range(10), boxes=True)
    run, scored = score(first)
    assert scored == [0, 1, 2, 3, 5, 6, 7, 8]
    second = night("2", range(4, 14), since=root, boxes=True)
    summary, scored = score(second)
    assert scored == [10, 11, 12, 13]
    assert summary.copied == 4
    plain = dataclasses.replace(second, since=None, out=str(tmp_path / "plain"))
    score(plain)
    assert but_for_provenance(rows_of(second)) == but_for_provenance(rows_of(plain))
    copied = [row["scored_by_run"] for row in rows_of(second)]
    assert copied == [None, *[run.run_id] * 4, None, *[None] * 4]
    assert manifest_of(second.out)["copied"] == 4
    assert not list(tmp_path.glob("vea-since-*/*"))


def test_a_copied_answer_names_the_run_that_scored_it(night, root):
    run, _ = score(night("1", [1, 2]))
    score(night("2", [2, 3], since=root))
    third = night("3", [2, 3], since=root)
    _, scored = score(third)
    assert scored == []
    assert rows_of(third)[0]["scored_by_run"] == run.run_id


def test_rows_that_failed_are_not_copied(night, root):
    first = night("1", [1, 4, 2])
    Path(first.image_list).with_name("2.jpg").unlink()
    score(first)
    second = night("2", [1, 4, 2], since=root)
    _, scored = score(second)
    assert scored == [2]
    assert [row["status"] for row in rows_of(second)] == ["ok", "failed", "ok"]
    assert [row["scored_by_run"] is None for row in rows_of(second)] == [False, True, True]


@pytest.mark.parametrize(
    "other",
    [
        ModelIdentity("stub", "1.0", "e" * 64),
        ModelIdentity("stub", "1.0", "d" * 64, runtime="onnx"),
    ],
)
def test_answers_of_other_models_are_not_copied(night, root, monkeypatch, other):
    first = night("1", [1, 2])
    score(first)
    path = Path(first.out, "_manifest.json")
    manifest = json.loads(path.read_text())
    settings = {"model_digest": other.digest, "runtime": other.runtime}
    manifest["settings"] |= settings
    path.write_text(json.dumps(manifest))
    _, scored = score(night("2", [1, 2], since=root))
    assert scored == [1, 2]


def test_rows_need_all_that_the_run_wants(night, root):
    score(night("1", [1, 2], content_hash=False))
    score(night("2", [1, 2]))
    _, scored = score(night("3", [1, 2], since=root, boxes=True))
    assert scored == [1, 2]


def test_a_resumed_run_has_the_bytes_of_an_undisturbed_one_whatever_was_finished_since(
    night, root, tmp_path
):
    score(night("1", range(6)))
    undisturbed = night("2", range(3, 14), since=root)
    undisturbed = dataclasses.replace(undisturbed, out=str(tmp_path / "undisturbed"))
    score(undisturbed)
    disturbed = night("2", range(3, 14), since=root)
    with pytest.raises(Broken):
        score(disturbed, on_progress=break_after(4))
    score(night("1b", range(14)))
    _, scored = score(disturbed)
    assert 13 in scored
    name = "images-00000.parquet"
    assert Path(disturbed.out, name).read_bytes() == Path(undisturbed.out, name).read_bytes()


def test_two_shards_copy_from_the_same_runs(night, root, tmp_path):
    score(night("1", range(6)))
    one = night("2", range(3, 14), since=root, once=True)
    whole = dataclasses.replace(one, out=str(tmp_path / "whole"))
    score(whole)
    score(dataclasses.replace(one, shard=(0, 2)))
    score(night("1b", range(14)))
    score(dataclasses.replace(one, shard=(1, 2)))
    name = "images-00000.parquet"
    assert Path(one.out, name).read_bytes() == Path(whole.out, name).read_bytes()


def test_a_run_that_changed_since_stops_the_resumed_one(night, root):
    first = night("1", range(6))
    score(first)
    second = night("2", range(3, 14), since=root)
    with pytest.raises(Broken):
        score(second, on_progress=break_after(4))
    path = Path(first.out, "_manifest.json")
    path.write_text(path.read_text().replace("}", " }"))
    for folder in Path(tempfile.gettempdir()).glob("vea-since-*"):
        for answers in folder.glob("*.lock"):
            answers.with_suffix("").rename(answers.with_suffix(".gone"))
    with pytest.raises(ConsultedError, match="is not as it was"):
        score(second)


def test_a_damaged_file_of_an_earlier_run_is_named(night, root):
    first = night("1", range(3))
    score(first)
    Path(first.out, "images-00000.parquet").write_bytes(b"PAR1")
    with pytest.raises(ConsultedError, match=r"images-00000\.parquet in .*dt=1 is damaged"):
        score(night("2", range(3), since=root))


def test_a_run_keeps_its_root(night, root, tmp_path):
    score(night("1", range(3)))
    job = night("2", range(12), since=root)
    with pytest.raises(Broken):
        score(job, on_progress=break_after(4))
    (tmp_path / "other").mkdir()
    with pytest.raises(ConsultedError, match="copies from"):
        score(dataclasses.replace(job, since=str(tmp_path / "other")))
    with pytest.raises(VeaError, match="--since"):
        score(dataclasses.replace(job, since=None))
    with pytest.raises(VeaError, match="there is no folder"):
        score(night("3", range(3), since=str(tmp_path / "none")))


def test_a_run_without_it_does_not_become_one_with_it(night, root):
    job = night("1", range(12))
    with pytest.raises(Broken):
        score(job, on_progress=break_after(4))
    with pytest.raises(VeaError, match="--since"):
        score(dataclasses.replace(job, since=root))
    score(job)


def test_a_failed_run_is_replaced_and_consults_anew(night, root):
    score(night("1", [1, 2]))
    job = night("2", [4, 9, 1], since=root, max_error_rate=0.1)
    with pytest.raises(VeaError, match="images failed"):
        score(job)
    score(night("1b", [3]))
    job = night("2", [1, 3, 6], since=root, replace_failed=True)
    _, scored = score(job)
    assert scored == [6]


def test_another_users_folder_in_tmpdir_is_not_used(night, root, tmp_path):
    score(night("1", [1]))
    (tmp_path / f"vea-since-{os.getuid()}").mkdir(mode=0o777)
    (tmp_path / f"vea-since-{os.getuid()}").chmod(0o777)
    with pytest.raises(VeaError, match="not a folder of yours alone"):
        score(night("2", [1], since=root))


def with_embeddings(job):
    model = TextModel()
    size = source_of(job, model.load).embedding_size()
    answers = model.predict_decoded

    def predict_decoded(images, *, embeddings=False, **wanted):
        return [
            dataclasses.replace(one, embedding=tuple([one.width / 7] * size))
            if embeddings and isinstance(one, Prediction)
            else one
            for one in answers(images, **wanted)
        ]

    model.predict_decoded = predict_decoded
    return model


def test_embeddings_are_copied_as_they_are(night, root, tmp_path):
    score(night("1", range(6)))
    second = night("2", range(3), embeddings=True)
    score(second, with_embeddings(second))
    third = night("3", range(1, 5), embeddings=True, since=root)
    _, scored = score(third, with_embeddings(third))
    assert scored == [3]
    plain = dataclasses.replace(third, since=None, out=str(tmp_path / "plain"))
    score(plain, with_embeddings(plain))
    assert but_for_provenance(rows_of(third)) == but_for_provenance(rows_of(plain))


def test_runs_without_a_column_that_is_wanted_are_not_consulted(night, root):
    chosen = ["content_sha256", "p_awe"]
    score(night("1", range(3), columns=chosen))
    few = night("2", range(3), columns=["scored_by_run", *chosen], since=root)
    assert score(few)[1] == []
    assert score(night("3", range(3), since=root))[1] == [0, 1, 2]


def test_a_dry_run_names_the_run_and_writes_nothing(night, root):
    score(night("1", range(6)))
    job = night("2", [4, 5, 7, 7, 5], since=root, once=True)
    model = TextModel()
    plan = plan_run(job, load=model.load)
    assert not Path(job.out).exists()
    assert (plan.rows, plan.images) == (5, 3)
    assert plan.columns["scored_by_run"] == "string"
    assert score(job)[0].run_id == plan.run_id


@pytest.fixture
def table(tmp_path):
    pytest.importorskip("deltalake")
    with closing(Stores(threads=1)) as stores:
        place = str(tmp_path / "table")
        yield place, lambda job: commit_run(job.out, place, stores)


@pytest.mark.parametrize("boxes", [False, True])
def test_answers_are_copied_from_a_delta_table(night, table, tmp_path, boxes):
    place, commit = table
    first = night("1", range(10), boxes=boxes)
    run, _ = score(first)
    commit(first)
    second = night("2", range(4, 14), since=place, boxes=boxes)
    _, scored = score(second)
    assert scored == [10, 11, 12, 13]
    plain = dataclasses.replace(second, since=None, out=str(tmp_path / "plain"))
    score(plain)
    assert but_for_provenance(rows_of(second)) == but_for_provenance(rows_of(plain))
    assert [row["scored_by_run"] for row in rows_of(second)][1:5] == [run.run_id] * 4
    commit(second)
    third = night("3", range(4, 14), since=place, boxes=boxes)
    _, scored = score(third)
    assert scored == []
    assert rows_of(third)[1]["scored_by_run"] == run.run_id


def test_a_resumed_run_copies_from_the_version_of_the_table_that_it_began_with(
    night, table, tmp_path
):
    place, commit = table
    first, between = night("1", range(6)), night("1b", range(14))
    score(first)
    score(between)
    commit(first)
    job = night("2", range(3, 14), since=place)
    undisturbed = dataclasses.replace(job, out=str(tmp_path / "undisturbed"))
    score(undisturbed)
    with pytest.raises(Broken):
        score(job, on_progress=break_after(4))
    remove_earlier(json.loads(Path(job.out, "_run/identity.json").read_text())["run_id"])
    commit(between)
    _, scored = score(job)
    assert 13 in scored
    name = "images-00000.parquet"
    assert Path(job.out, name).read_bytes() == Path(undisturbed.out, name).read_bytes()


def test_rows_of_a_table_need_the_same_model_and_runtime(night, table):
    place, commit = table
    first = night("1", range(3))
    score(first)
    commit(first)
    known = json.loads(Path(first.out, "_run/identity.json").read_text())
    run_id = known.pop("run_id")
    identity = RunIdentity(**known)
    with closing(Stores(threads=1)) as stores:
        assert runs_of(place, identity, stores)[1] == [run_id]
        other = dataclasses.replace(identity, runtime="another")
        assert runs_of(place, other, stores)[1] == []
        other = dataclasses.replace(identity, model_digest="e" * 64)
        assert runs_of(place, other, stores)[1] == []
