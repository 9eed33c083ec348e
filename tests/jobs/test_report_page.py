import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from finished_runs import emotions, failed, scored, write_run
from part_rows import MODEL
from PIL import Image

from handler.predictor import Predictor
from jobs.report.build import Price, make_report
from jobs.report.finished_run import ReportError
from jobs.report.gallery import Gallery, explainer
from jobs.report.page import Shown, render
from jobs.report.reading import read_run
from jobs.storage.stores import Stores

ATTACK = '<script src="https://evil.example/x.js"></script>"\' onerror="x" {{ 7 * 7 }}.jpg'
_VOID = {"meta", "img", "link", "br"}


class Outline(HTMLParser):
    """Elements of a page; fails if they are not nested as they should be."""

    def __init__(self, page):
        super().__init__()
        self.elements, self._open = [], []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def text_of(page):
    return " ".join(re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL).split())


@pytest.fixture
def run(tmp_path):
    def make(day, rows, **options):
        location = tmp_path / f"dt=2026-11-{day:02d}"
        write_run(location, rows, list_folder=str(tmp_path), **options)
        return read_run(str(location), Stores(), examples=3)

    return make


@pytest.fixture
def photos(tmp_path, jpeg):
    for seed in range(3):
        (tmp_path / f"{seed}.jpg").write_bytes(jpeg(seed))


def test_what_the_list_says_cannot_become_part_of_the_page(run):
    latest = run(23, [scored("awe", image=ATTACK), scored("fear", 0.3, image="b.jpg")])
    shown = [Shown(item, remark=ATTACK) for item in latest.most_confident]
    page = render(make_report(latest, []), most_confident=shown)
    outline = Outline(page)
    assert outline.all("script") == []
    assert not any("onerror" in attributes for _, attributes in outline.elements)
    assert "{{ 7 * 7 }}" in page
    assert "&lt;script" in page


def test_the_page_loads_nothing_and_forbids_it_too(run, photos):
    latest = run(23, [scored("awe", 0.9 - n / 10) for n in range(3)])
    shown = Gallery(latest, Stores()).show(latest.most_confident)
    outline = Outline(render(make_report(latest, []), most_confident=shown))
    links = [
        value
        for _, attributes in outline.elements
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "data", "action")
    ]
    assert len(links) == 3
    assert all(link.startswith("data:image/jpeg;base64,") for link in links)
    policy = [m["content"] for m in outline.all("meta") if "http-equiv" in m]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]


def test_people_who_do_not_see_the_page_can_read_it(run, photos):
    before = run(22, emotions(awe=9, fear=9))
    latest = run(23, [scored("awe", 0.9 - n / 10) for n in range(3)])
    shown = Gallery(latest, Stores()).show(latest.most_confident)
    outline = Outline(
        render(make_report(latest, [before]), most_confident=shown, least_confident=shown)
    )
    assert outline.all("html") == [{"lang": "en"}]
    assert len(outline.all("h1")) == 1
    levels = [int(tag[1]) for tag, _ in outline.elements if re.fullmatch("h[1-6]", tag)]
    assert all(after <= level + 1 for level, after in pairwise(levels))
    assert all(len(image["alt"]) > 5 for image in outline.all("img"))
    assert all("scope" in head for head in outline.all("th"))
    assert len(outline.all("caption")) == len(outline.all("table"))


def test_the_page_says_whether_the_emotions_have_drifted(run):
    before = run(22, emotions(awe=60, fear=40))
    drifted = make_report(run(23, emotions(awe=10, fear=90)), [before])
    page = text_of(render(drifted))
    assert "Drift: the emotions differ from those of earlier runs." in page
    assert f"{drifted.drift.distance:.3f} away from those of the run before" in page
    calm = text_of(render(make_report(run(24, emotions(awe=61, fear=39)), [before])))
    assert "No drift." in calm
    alone = text_of(render(make_report(run(25, emotions(awe=9)), [])))
    assert "Drift was not measured." in alone


def test_the_page_has_the_figures(run):
    before = run(22, [*emotions(awe=999), failed("fetch", "missing")])
    other = run(21, emotions(awe=9), model=replace(MODEL, version="0.9", digest="e" * 64))
    latest = run(23, [*emotions(awe=1000, fear=200), failed("decode", "damaged")])
    report = make_report(latest, [before, other], price=Price.parse("0.36 USD"))
    page = text_of(render(report))
    assert "1,201 images, scored by vea-lite 1.1" in page
    assert "awe 1,000 83.3 % 100.0 % \N{MINUS SIGN}16.7" in page
    assert "fear 200 16.7 % 0.0 % +16.7" in page
    assert "decode/damaged 1 0.1 % 0.0 %" in page
    assert "USD for 1,000 images 0.0050 0.01 for the run, at 0.36 an hour" in page
    assert "images per second 20.0 1 min 30 s in all" in page
    assert "another model scored them: 2026-11-21 (vea-lite 0.9)" in page


@pytest.mark.parametrize("rows", [[], [failed("fetch", "missing")], emotions(awe=1)])
def test_odd_runs_have_a_page_too(run, rows):
    latest = run(23, rows, facts={})
    for earlier in ([], [run(22, [])], [run(21, emotions(fear=2))]):
        Outline(render(make_report(latest, earlier, price=Price.parse("1"))))


@pytest.mark.parametrize("image", ["/none/1.tar.gz#7.jpg", "/none/a.parquet#row=7"])
def test_a_photo_inside_a_file_is_said_not_to_be_shown(run, tmp_path, image):
    latest = run(23, [scored("awe", 0.9, image=image)])
    (shown,) = Gallery(latest, Stores()).show(latest.most_confident)
    assert shown.pictures == ()
    assert shown.remark == "no picture: it is inside a file, which a report does not open"


def test_photos_are_shown_small(run, tmp_path, photo, encode):
    (tmp_path / "large.jpg").write_bytes(encode(photo(1, (1600, 1200)), "JPEG"))
    latest = run(23, [scored("awe", image="large.jpg")])
    ((_, url),) = Gallery(latest, Stores()).show(latest.most_confident)[0].pictures
    picture = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    assert picture.size == (320, 240)
    assert len(url) < 60_000


def test_a_photo_that_is_gone_or_broken_is_said_to_be_so(run, tmp_path, jpeg):
    (tmp_path / "broken.jpg").write_bytes(jpeg(1)[:300])
    (tmp_path / "changed.jpg").write_bytes(jpeg(2))
    latest = run(
        23,
        [
            scored("awe", 0.9, image="gone.jpg"),
            scored("awe", 0.8, image="broken.jpg"),
            scored("awe", 0.7, image="changed.jpg", etag="what-it-was"),
        ],
    )
    gone, broken, changed = Gallery(latest, Stores()).show(latest.most_confident)
    assert (gone.pictures, gone.remark) == ((), "no picture: there is no such file")
    assert broken.pictures == ()
    assert broken.remark.startswith("no picture: ")
    assert len(changed.pictures) == 1
    assert changed.remark == "this image has changed since it was scored"


def test_with_the_model_the_reasons_are_drawn(run, photos, tiny_model):
    model = Predictor.load(tiny_model).model
    latest = run(23, [scored("awe")], model=model)
    (shown,) = Gallery(latest, Stores(), explain=explainer(tiny_model, latest)).show(
        latest.most_confident
    )
    stimuli, activation = shown.pictures
    assert "objects" in stimuli[0]
    assert activation[0].startswith("in red what spoke for ")
    page = render(make_report(latest, []), most_confident=[shown])
    assert [i["alt"][:6] for i in Outline(page).all("img")] == ["0.jpg:", "0.jpg:"]


def test_another_model_than_the_one_that_scored_does_not_explain(run, tiny_model):
    with pytest.raises(ReportError, match="is not the model that scored"):
        explainer(tiny_model, run(23, [scored("awe")]))
