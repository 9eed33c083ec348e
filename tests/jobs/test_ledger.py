import json
import threading
from pathlib import Path

import pytest
from part_rows import COLUMNS, IDENTITY, MODEL, identity, rows

from jobs.output import ledger, parquet
from jobs.output.compaction import PartError
from jobs.output.ledger import Ledger, LedgerError
from jobs.output.partitions import PathColumnError
from jobs.storage.errors import StorageError
from jobs.storage.folders import LocalFolder, ObjectMissing
from jobs.values.chunks import Chunk
from jobs.values.layout import part_name

TOTAL, SIZE = 10, 3
CHUNKS = [Chunk(index, index * SIZE, ()) for index in range(4)]
NAMES = [part_name(chunk) for chunk in CHUNKS]
FACTS = {"seconds": 12.5}


def write_part(folder, chunk):
    part = rows(chunk.start, min(chunk.start + SIZE, TOTAL))
    folder.write(part_name(chunk), parquet.encode(part, COLUMNS))


def finish(book, **more):
    return book.finish(NAMES, model=MODEL, list_location="list.txt", facts=FACTS, **more)


def run(folder, poison=()):
    """A start of the run, from wherever an earlier one was."""
    book = Ledger(folder, IDENTITY)
    state = book.claim()
    if state.manifest:
        return state.manifest
    for chunk in CHUNKS:
        if part_name(chunk) not in state.parts:
            if chunk.index in poison:
                book.quarantine(chunk, [chunk.start])
            write_part(folder, chunk)
    return finish(book, rows_per_file=4)


@pytest.fixture
def folder(tmp_path):
    return LocalFolder(str(tmp_path / "out"))


def content(folder):
    root = Path(folder.location)
    files = [path for path in root.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


@pytest.fixture
def undisturbed(tmp_path):
    """The folder's content after a run that nothing happened to."""
    folder = LocalFolder(str(tmp_path / "undisturbed"))
    run(folder)
    return content(folder)


class Killed(BaseException):
    """No code may handle it, as none handles `kill -9`."""


class DisturbedFolder(LocalFolder):
    """Something happens instead of the operation with one number, or before it."""

    def __init__(self, location, number, what):
        super().__init__(location)
        self._left = number
        self._what = what
        self._lock = threading.Lock()

    def _count(self):
        with self._lock:
            self._left -= 1
            now = self._left < 0 and self._what is not None
            what = self._what
            if now and what is not die:
                self._what = None
        if now:
            what()

    @property
    def was_disturbed(self):
        return self._left < 0

    def list(self, prefix=""):
        self._count()
        return super().list(prefix)

    def read(self, name):
        self._count()
        return super().read(name)

    def write(self, name, data):
        self._count()
        super().write(name, data)

    def create(self, name, data):
        self._count()
        return super().create(name, data)

    def delete(self, names):
        for name in names:
            self._count()
            super().delete([name])


def die():
    raise Killed


def check_what_readers_see(folder):
    files = content(folder)
    if "_SUCCESS" in files:
        manifest = json.loads(files["_manifest.json"])
        assert {f["name"] for f in manifest["files"]} == {n for n in files if n[0] == "i"}
        assert all(f["bytes"] == len(files[f["name"]]) for f in manifest["files"])
    for name in files:
        if name.endswith(".parquet"):
            parquet.read_part(files[name])


def test_a_new_folder_is_claimed_once(folder):
    assert Ledger(folder, IDENTITY).claim() == ledger.RunState()
    there = json.loads(folder.read("_run/identity.json"))
    assert there["run_id"] == IDENTITY.run_id
    assert there["keep"] == ["sku"]
    assert Ledger(folder, IDENTITY).claim() == ledger.RunState()


def test_parts_and_poison_are_found_again(folder):
    book = Ledger(folder, IDENTITY)
    book.claim()
    write_part(folder, CHUNKS[2])
    book.quarantine(CHUNKS[1], [4])
    book.quarantine(CHUNKS[1], frozenset({3}))
    state = Ledger(folder, IDENTITY).claim()
    assert state.manifest is None
    assert state.parts == {NAMES[2]: len(folder.read(NAMES[2]))}
    assert state.poison == {1: frozenset({3, 4})}


def test_poison_of_an_earlier_start_stays_when_more_is_found(folder):
    for position in (4, 5):
        book = Ledger(folder, IDENTITY)
        book.claim()
        book.quarantine(CHUNKS[1], [position])
    assert Ledger(folder, IDENTITY).claim().poison == {1: frozenset({4, 5})}


def test_parts_are_recalled_in_order(folder):
    for chunk in CHUNKS:
        write_part(folder, chunk)
    reports = Ledger(folder, IDENTITY).load_part_stats(NAMES)
    assert [report.name for report in reports] == NAMES
    assert [report.rows for report in reports] == [3, 3, 3, 1]
    assert [report.failed for report in reports] == [0, 1, 0, 1]
    assert reports[1].reasons == {"fetch/missing": 1}


def test_a_part_that_is_none_is_told(folder):
    folder.write(NAMES[0], b"PAR1 and nothing else")
    with pytest.raises(PartError, match=r"part-00000\.parquet .* delete it, start again"):
        Ledger(folder, IDENTITY).load_part_stats(NAMES[:1])
    with pytest.raises(ObjectMissing, match=r"part-00001"):
        Ledger(folder, IDENTITY).load_part_stats(NAMES[1:2])


def test_a_finished_run_has_its_files_its_manifest_and_nothing_else(folder):
    manifest = run(folder, poison={1})
    assert sorted(content(folder)) == [
        "_SUCCESS",
        "_manifest.json",
        "_run/identity.json",
        *(f"images-0000{i}.parquet" for i in range(3)),
    ]
    assert json.loads(folder.read("_manifest.json")) == manifest
    assert manifest["run_id"] == IDENTITY.run_id
    assert (manifest["rows"], manifest["parts"]) == (10, 4)
    assert manifest["status"] == {"failed": 2, "ok": 8}
    assert manifest["reasons"] == {"fetch/missing": 2}
    assert sum(manifest["emotions"].values()) == 8
    assert manifest["model"] == {
        "name": "vea-lite",
        "version": "1.1",
        "digest": "d" * 64,
        "runtime": "torch",
    }
    assert manifest["list"] == "list.txt"
    assert manifest["settings"]["chunk_size"] == 3
    assert manifest["facts"] == FACTS
    assert [f["rows"] for f in manifest["files"]] == [4, 4, 2]
    sizes = [len(folder.read(f["name"])) for f in manifest["files"]]
    assert [f["bytes"] for f in manifest["files"]] == sizes
    assert manifest["bytes"] == sum(sizes)


def test_the_list_that_was_made_for_a_prefix_stays(folder):
    folder.create("_run/list.txt.gz", b"list")
    run(folder)
    assert folder.read("_run/list.txt.gz") == b"list"


def test_a_finished_run_is_known_by_three_requests_and_left_alone(folder):
    manifest = run(folder)
    before, calls = content(folder), []

    class Counting(LocalFolder):
        def list(self, prefix=""):
            calls.append(f"list {prefix}")
            return super().list(prefix)

        def read(self, name):
            calls.append(f"read {name}")
            return super().read(name)

        def write(self, name, data):
            raise AssertionError(name)

    state = Ledger(Counting(folder.location), IDENTITY).claim()
    assert state == ledger.RunState(manifest)
    assert calls == ["list ", "read _manifest.json", "list _run/"]
    assert content(folder) == before


def test_finishing_a_finished_run_says_what_it_said(folder):
    book = Ledger(folder, IDENTITY)
    book.claim()
    for chunk in CHUNKS:
        write_part(folder, chunk)
    first = finish(book, rows_per_file=4)
    # A driver that has not noticed writes a part again.
    write_part(folder, CHUNKS[3])
    again = book.finish(NAMES, model=MODEL, list_location="other", facts={"seconds": 99})
    assert again == first
    assert list(folder.list("_run/")) == ["_run/identity.json"]


def test_a_run_killed_anywhere_ends_as_if_nothing_had_happened(tmp_path, undisturbed):
    operation, killed = 0, True
    while killed:
        folder = DisturbedFolder(str(tmp_path / f"{operation}"), operation, die)
        try:
            run(folder, poison={1})
            killed = folder.was_disturbed
        except Killed:
            check_what_readers_see(folder)
            run(LocalFolder(folder.location))
        assert content(folder) == undisturbed, f"operation {operation}"
        operation += 1
    assert operation > 25


def test_two_drivers_of_one_run_do_no_harm(tmp_path, undisturbed):
    """The second one does all its work between any two operations of the first."""
    operation, disturbed = 0, True
    while disturbed:
        location = str(tmp_path / f"{operation}")
        folder = DisturbedFolder(location, operation, lambda at=location: run(LocalFolder(at)))
        manifest = run(folder)
        disturbed = folder.was_disturbed
        assert content(folder) == undisturbed, f"operation {operation}"
        assert manifest["rows"] == TOTAL
        operation += 1
    assert operation > 20


class ReadOnlyParts(LocalFolder):
    """A folder from which nothing can be deleted."""

    def delete(self, names):
        if names := list(names):
            raise StorageError(f"cannot delete {names[0]}: AccessDenied")


def test_what_cannot_be_tidied_up_after_the_end_is_a_warning(tmp_path, undisturbed):
    folder = ReadOnlyParts(str(tmp_path / "out"))
    warned = []
    for _ in range(2):
        book = Ledger(folder, IDENTITY, warn=warned.append)
        if not book.claim().manifest:
            for chunk in CHUNKS:
                write_part(folder, chunk)
            finish(book, rows_per_file=4)
    assert content(folder).items() >= undisturbed.items()
    assert [("the run is complete" in line, "AccessDenied" in line) for line in warned] == [
        (True, True)
    ] * 2


def test_files_of_an_interrupted_start_that_are_no_longer_needed_go(folder):
    Ledger(folder, IDENTITY).claim()
    folder.write("images-00007.parquet", parquet.encode(rows(0, 1), COLUMNS))
    run(folder)
    assert sorted(folder.list("images-")) == [f"images-0000{i}.parquet" for i in range(3)]


def test_a_missing_part_is_told_and_nothing_is_called_finished(folder):
    book = Ledger(folder, IDENTITY)
    book.claim()
    for chunk in CHUNKS[:3]:
        write_part(folder, chunk)
    with pytest.raises(LedgerError, match=r"no _run/part-00003\.parquet .*: start again"):
        finish(book)
    assert "_SUCCESS" not in folder.list()


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"list_sha256": "b" * 64}, "the list of images"),
        ({"chunk_size": 4}, "--chunk-size"),
        ({"keep": ()}, "--keep"),
        ({"boxes": True}, "--boxes"),
        ({"hosts": ("a.example",)}, "--allow-host"),
        ({"model_digest": "e" * 64, "column": "url"}, "--column, the model"),
    ],
)
def test_two_runs_are_never_mixed_in_one_folder(folder, finished, change, word):
    if finished:
        run(folder)
    else:
        Ledger(folder, IDENTITY).claim()
        write_part(folder, CHUNKS[0])
    before = content(folder)
    with pytest.raises(LedgerError, match=r"another run: (.*) differs; choose another") as caught:
        Ledger(folder, identity(**change)).claim()
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)
    assert content(folder) == before


@pytest.mark.parametrize("operation", range(3))
def test_of_two_runs_that_claim_at_once_one_gets_the_folder(tmp_path, operation):
    location, other = str(tmp_path / "out"), identity(chunk_size=4)
    folder = DisturbedFolder(
        location, operation, lambda: Ledger(LocalFolder(location), other).claim()
    )
    with pytest.raises(LedgerError, match="--chunk-size differs"):
        Ledger(folder, IDENTITY).claim()
    assert folder.was_disturbed


def test_foreign_parquet_files_are_left_alone(folder):
    folder.write("mine.parquet", b"precious")
    with pytest.raises(LedgerError, match=r"such as mine\.parquet: choose another"):
        Ledger(folder, IDENTITY).claim()
    assert content(folder) == {"mine.parquet": b"precious"}


def test_a_folder_of_an_earlier_version_is_left_alone(folder):
    folder.write("_run.json", b"{}")
    folder.write("part-00000.parquet", b"data")
    with pytest.raises(LedgerError, match="earlier version"):
        Ledger(folder, IDENTITY).claim()
    assert len(content(folder)) == 2


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff", b'{"settings": 3}'])
@pytest.mark.parametrize("name", ["_run/identity.json", "_manifest.json"])
def test_a_damaged_record_is_one_line(folder, name, text):
    run(folder)
    folder.write(name, text)
    if name != "_manifest.json":
        folder.delete(["_SUCCESS"])
    with pytest.raises(LedgerError, match=f"{name} in .* is damaged"):
        Ledger(folder, IDENTITY).claim()


@pytest.mark.parametrize("text", [b"", b"[]", b'{"positions": 3}', b'{"positions": ["a"]}'])
def test_a_damaged_poison_marker_is_one_line(folder, text):
    Ledger(folder, IDENTITY).claim()
    folder.write("_run/poison-00001.json", text)
    with pytest.raises(LedgerError, match=r"poison-00001\.json .* delete it"):
        Ledger(folder, IDENTITY).claim()


def test_what_the_path_says_of_the_model_is_left_out_of_the_files(tmp_path):
    root = tmp_path / "dt=2026-11-23" / "model_version=1.1"
    run(LocalFolder(str(root)))
    names = parquet.read_part((root / "images-00000.parquet").read_bytes()).column_names
    assert names == [name for name in COLUMNS.names if name != "model_version"]


@pytest.mark.parametrize("key", ["sku", "SKU", "status", "position"])
def test_a_path_cannot_hide_a_column(tmp_path, key):
    folder = LocalFolder(str(tmp_path / f"{key}=5"))
    with pytest.raises(PathColumnError, match=f"'{key}' is a column .* --keep"):
        Ledger(folder, IDENTITY).claim()
    assert content(folder) == {}
