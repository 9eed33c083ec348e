"""Workers on a Ray cluster of two nodes, of which one is lost; the model is a stub."""

import os
from pathlib import Path

import pytest
import stub_job
import stub_model
from test_processes import files_of, listing, undisturbed  # noqa: F401 - a fixture among them

from handler.values.errors import VeaError
from jobs.engines.dispatch import WorkerFailed
from jobs.engines.ray import OnRay
from jobs.run.driver import score_list
from tests.jobs.containers import forms_of

pytestmark = [pytest.mark.integration, pytest.mark.long, pytest.mark.usefixtures("only_ray")]

# Ray reads it when it is imported: everything stays on the loopback interface.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
ray = pytest.importorskip("ray")


@pytest.fixture(scope="module")
def cluster(only_ray):
    """Two nodes with room for one worker each."""
    from ray.cluster_utils import Cluster  # noqa: PLC0415

    with pytest.MonkeyPatch.context() as patch:
        # Where the workers find the stub.
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        made = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 1,
                "include_dashboard": False,
                "node_ip_address": "127.0.0.1",
            },
        )
        made.add_node(num_cpus=1, node_ip_address="127.0.0.1")
        made.wait_for_nodes()
    try:
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


def score(cluster, listed, out, *, load=stub_model.load, on_progress=None, **options):
    return score_list(
        stub_job.job(listed, out),
        engine=OnRay(cluster.address, **options),
        load=load,
        on_progress=on_progress,
    )


def test_an_error_in_a_worker_is_one_line(cluster, listing, tmp_path):  # noqa: F811
    with pytest.raises(WorkerFailed, match=r"^RuntimeError: out of memory$"):
        score(cluster, listing(4), tmp_path / "out", load=stub_model.refuse_to_load)


def test_a_node_that_is_lost_costs_no_row_and_changes_no_byte(
    cluster,
    listing,  # noqa: F811
    tmp_path,
):
    listed = listing(48, slow=True)
    expected = undisturbed(listed, tmp_path / "calm")
    nodes, lost = [], []

    def lose_one(now):
        nodes.append(len({node["NodeID"] for node in ray.nodes() if node["Alive"]}))
        if now.done >= 12 and not lost:
            lost.append(next(iter(cluster.worker_nodes)))
            cluster.remove_node(lost[0], allow_graceful=False)

    summary = score(cluster, listed, tmp_path / "out", on_progress=lose_one)
    assert lost
    assert nodes[0] == 2
    assert (summary.rows, summary.failed, summary.scored) == (48, 0, 48)
    assert files_of(tmp_path / "out") == expected


def test_without_a_cluster_at_the_address_there_is_one_line(listing, tmp_path):  # noqa: F811
    with pytest.raises(VeaError, match=r"there is no Ray cluster at 127\.0\.0\.1:1: ") as caught:
        score_list(
            stub_job.job(listing(4), tmp_path / "out"),
            engine=OnRay("127.0.0.1:1"),
            load=stub_model.load,
        )
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["photos.tar.gz", "hugging-face.parquet"])
def test_pictures_inside_files_give_the_same_bytes(cluster, tmp_path, name):
    (tmp_path / name).write_bytes(forms_of([f"{n}".encode() for n in range(24)])[name])
    expected = undisturbed(tmp_path / name, tmp_path / "calm")
    score(cluster, tmp_path / name, tmp_path / "out")
    assert files_of(tmp_path / "out") == expected
