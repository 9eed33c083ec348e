"""The page in a real Chromium, before a real TorchServe: what people do with it, and with what."""

from __future__ import annotations

import base64
import io
import json
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from gateway_server import gateway, send
from PIL import Image
from torchserve_server import drawn_images

from handler.values.emotions import EKMAN, MIKELS, POLARITY
from vea.serving.server import TorchServe
from vea.web.assets import SAMPLES
from vea.web.keys import KeyRing, new_key

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine"),
]
_FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
# Chromium itself tells the console of every refusal that a page was given.
_REFUSALS = "Failed to load resource: the server responded with a status of 4"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def base(tiny_server: TorchServe) -> Iterator[str]:
    with gateway(tiny_server.directory.state) as address:
        yield address


class Visit:
    """One page of a browser, and what went wrong and came in on it."""

    def __init__(self, browser: Any, base: str, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.addresses: list[str] = []
        self.received: list[Any] = []
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.addresses.append(request.url))
        self.page.on("response", self._receive)
        self.page.goto(base + "/")
        self.page.wait_for_selector("#model option[value]", state="attached", timeout=30_000)

    def _hear(self, message: Any) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(_REFUSALS):
            self.complaints.append(message.text)

    def _receive(self, response: Any) -> None:
        self.received.append(response)

    def answered(self) -> None:
        self.page.wait_for_selector("#stage:not([aria-busy])", timeout=60_000)
        self.page.wait_for_selector("#reasons:not([hidden])", timeout=60_000)

    def text(self, selector: str) -> str:
        return str(self.page.locator(selector).text_content())

    def answer(self) -> dict[str, Any]:
        return dict(json.loads(self.text("#json")))


@pytest.fixture
def visit(browser: Any, base: str) -> Iterator[Visit]:
    visit = Visit(browser, base, viewport={"width": 1200, "height": 900})
    yield visit
    visit.context.close()
    assert visit.complaints == []
    assert all(address.startswith((base, "blob:")) for address in visit.addresses)


def jpeg(size: tuple[int, int], *, orientation: int | None = None) -> bytes:
    picture = Image.linear_gradient("L").resize(size).convert("RGB")
    options: dict[str, Any] = {}
    if orientation is not None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        options["exif"] = exif
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", **options)
    return encoded.getvalue()


def upload(visit: Visit, content: bytes, name: str = "photo.jpg", kind: str = "image/jpeg") -> None:
    file = {"name": name, "mimeType": kind, "buffer": content}
    visit.page.set_input_files("#file", file)


def hand_over(visit: Visit, event: str, content: bytes) -> None:
    """Paste or drop a file, as the browser tells a page of it."""
    visit.page.evaluate(
        """([kind, base64]) => {
          const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
          const transfer = new DataTransfer();
          transfer.items.add(new File([bytes], "handed-over.jpg", { type: "image/jpeg" }));
          const options = { bubbles: true, cancelable: true };
          document.body.dispatchEvent(kind === "paste"
            ? new ClipboardEvent("paste", { ...options, clipboardData: transfer })
            : new DragEvent("drop", { ...options, dataTransfer: transfer }));
        }""",
        [event, base64.b64encode(content).decode()],
    )


def test_a_sample_shows_the_emotion_and_its_reasons(visit: Visit) -> None:
    visit.page.click("[data-sample='astronaut.jpg']")
    visit.answered()
    answer = visit.answer()
    assert visit.text("#emotion b") == answer["emotion"]
    assert answer["polarity"]["label"] in visit.text("#polarity")
    wheel = visit.page.locator("#wheel").get_attribute("aria-label")
    assert all(emotion in wheel for emotion in MIKELS.labels)
    assert visit.page.locator("#wheel .share").count() == sum(
        share > 0 for share in answer["probabilities"].values()
    )
    assert visit.page.locator("#marks .object").count() == len(answer["objects"])
    assert {item["label"] for item in answer["objects"]} == {None}, "random weights"
    listed = visit.page.locator("#objects li").count()
    assert visit.page.locator("#objects .place").count() == listed > 1
    assert visit.page.locator("#marks rect.face").count() == int(answer["face"]["found"])
    assert visit.page.locator("#crop").is_visible() == bool(answer["face"]["crop"])
    assert visit.text("#model-version") == "0.1"
    assert answer["model"]["digest"].startswith(visit.text("#model-digest"))
    assert visit.text("#status").startswith("An astronaut")


def test_layers_can_be_shown_and_hidden(visit: Visit) -> None:
    visit.page.click("[data-sample='astronaut.jpg']")
    visit.answered()
    visit.page.uncheck("#show-objects")
    assert visit.page.locator("#marks .object").count() == 0
    visit.page.uncheck("#show-face")
    assert visit.page.locator("#marks rect.face").count() == 0
    assert not visit.page.locator("#heat").is_visible()
    visit.page.check("#show-heat")
    assert visit.page.locator("#heat").is_visible()
    colours = visit.page.evaluate(
        """() => {
          const heat = document.getElementById("heat");
          const pixels = heat.getContext("2d").getImageData(0, 0, heat.width, heat.height).data;
          return new Set(pixels.filter((_, i) => i % 4 === 0)).size;
        }"""
    )
    assert colours > 20


@pytest.mark.parametrize("way", ["choose", "paste", "drop"])
def test_a_photo_of_ones_own_is_answered(visit: Visit, way: str, tiny_server: TorchServe) -> None:
    photo = jpeg((160, 90))
    if way == "choose":
        upload(visit, photo)
    else:
        hand_over(visit, way, photo)
    visit.answered()
    _, expected = tiny_server.predict(photo)
    assert visit.answer()["emotion"] == expected["emotion"]
    assert visit.answer()["image_size"] == {"width": 160, "height": 90}


def test_boxes_lie_on_a_photo_that_its_exif_turns(visit: Visit) -> None:
    upload(visit, jpeg((300, 200), orientation=6))
    visit.answered()
    shown = visit.page.evaluate(
        "() => { const i = document.getElementById('photo');"
        " return { width: i.naturalWidth, height: i.naturalHeight }; }"
    )
    assert shown == {"width": 200, "height": 300} == visit.answer()["image_size"]
    assert visit.page.locator("#marks").get_attribute("viewBox") == "0 0 200 300"
    photo = visit.page.locator("#photo").bounding_box()
    marks = visit.page.locator("#marks").bounding_box()
    assert marks == pytest.approx(photo, abs=1)


def test_a_format_that_the_browser_cannot_show_is_answered_all_the_same(visit: Visit) -> None:
    encoded = io.BytesIO()
    Image.open(io.BytesIO(drawn_images(1)[0])).convert("RGB").save(encoded, "TIFF")
    upload(visit, encoded.getvalue(), "scan.tif", "image/tiff")
    visit.answered()
    visit.page.wait_for_selector("#no-picture", state="visible")
    assert visit.page.locator("#marks .object").count() > 0


def test_a_broken_photo_is_refused_in_words(visit: Visit) -> None:
    visit.page.click("[data-sample='broken.jpg']")
    visit.page.wait_for_selector("[role=alert]:not(:empty)")
    assert "damaged or truncated" in visit.text("[role=alert]")
    assert visit.page.locator("#reasons").is_hidden()
    visit.page.click("[data-sample='clock.jpg']")
    visit.answered()
    assert visit.text("[role=alert]") == ""


def test_the_keyboard_is_enough(visit: Visit) -> None:
    focused = "() => document.activeElement.dataset.sample ?? document.activeElement.id"
    seen: list[str] = []
    visit.page.keyboard.press("Tab")
    assert visit.page.evaluate("() => document.activeElement.className") == "skip"
    for _ in range(20):
        visit.page.keyboard.press("Tab")
        seen.append(visit.page.evaluate(focused))
        if seen[-1] == "flower.jpg":
            break
    assert seen == ["file", "astronaut.jpg", "cat.webp", "flower.jpg"]
    outline = visit.page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    visit.page.keyboard.press("Enter")
    visit.answered()
    order: list[str] = []
    for _ in range(30):
        visit.page.keyboard.press("Tab")
        order.append(visit.page.evaluate("() => document.activeElement.id"))
        if order[-1] == "show-heat":
            break
    visit.page.keyboard.press("Space")
    assert visit.page.locator("#heat").is_visible()
    assert [name for name in order if name.startswith("show")] == [
        *("show-objects", "show-face", "show-heat")
    ]


def test_the_json_can_be_copied(browser: Any, base: str) -> None:
    visit = Visit(browser, base, permissions=["clipboard-read", "clipboard-write"])
    visit.page.click("[data-sample='cat.webp']")
    visit.answered()
    visit.page.click("#raw summary")
    visit.page.click("#copy")
    visit.page.wait_for_selector("#copy:has-text('Copied')")
    copied = json.loads(visit.page.evaluate("() => navigator.clipboard.readText()"))
    assert copied["model"]["name"] == "tiny"
    visit.context.close()
    assert visit.complaints == []


@pytest.mark.parametrize("width", [360, 768, 1400])
def test_nothing_is_wider_than_the_screen(browser: Any, base: str, width: int) -> None:
    visit = Visit(browser, base, viewport={"width": width, "height": 800})
    for _ in range(2):  # before an answer, and with one
        widest = visit.page.evaluate("() => document.documentElement.scrollWidth")
        assert widest <= width
        visit.page.click("[data-sample='palace.jpg']")
        visit.answered()
        visit.page.locator("#raw summary").click()
    visit.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("state", ["fresh", "answered", "refused"])
def test_axe_finds_nothing_that_shuts_people_out(
    browser: Any, base: str, scheme: str, state: str
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe here")
    visit = Visit(browser, base, color_scheme=scheme, bypass_csp=True, reduced_motion="reduce")
    if state == "answered":
        visit.page.click("[data-sample='astronaut.jpg']")
        visit.answered()
        visit.page.click("#raw summary")
    elif state == "refused":
        visit.page.click("[data-sample='broken.jpg']")
        visit.page.wait_for_selector("[role=alert]:not(:empty)")
    found = axe.Axe().run(visit.page)
    visit.context.close()
    assert found.violations_count == 0, found.generate_report()


def test_no_animation_where_motion_is_unwanted(browser: Any, base: str) -> None:
    visit = Visit(browser, base, reduced_motion="reduce")
    moving = visit.page.evaluate(
        "() => [...document.querySelectorAll('*')].filter((element) => "
        "parseFloat(getComputedStyle(element).transitionDuration) > 0).length"
    )
    visit.context.close()
    assert moving == 0


def test_no_key_of_torchserve_reaches_the_browser(visit: Visit, tiny_server: TorchServe) -> None:
    visit.page.click("[data-sample='cat.webp']")
    visit.answered()
    upload(visit, b"broken")
    visit.page.wait_for_selector("[role=alert]:not(:empty)")
    keys = json.loads(tiny_server.directory.keys.read_text())
    seen = [visit.page.content()]
    for response in visit.received:
        seen.append(repr(response.headers))
        if response.url.startswith("http") and response.status == 200:
            seen.append(response.body().decode("utf-8", "replace"))
    assert len(seen) > 8
    for entry in keys.values():
        assert not any(entry["key"] in text for text in seen)


def test_a_gateway_with_keys_asks_for_one_and_goes_on(
    browser: Any, tiny_server: TorchServe, tmp_path: Path
) -> None:
    key, line = new_key("guest")
    (tmp_path / "keys").write_text(line)
    with gateway(tiny_server.directory.state, keys=KeyRing(tmp_path / "keys")) as guarded:
        context = browser.new_context()
        page = context.new_page()
        page.goto(guarded + "/")
        page.wait_for_selector("#key", state="visible")
        page.fill("#key", key)
        page.keyboard.press("Enter")
        page.wait_for_selector("#key-form", state="hidden")
        page.click("[data-sample='cat.webp']")
        page.wait_for_selector("#reasons:not([hidden])", timeout=60_000)
        assert page.evaluate("() => localStorage.length + sessionStorage.length") == 0
        context.close()


@pytest.mark.threat("T7")
def test_another_sites_page_cannot_ask(browser: Any, base: str, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<!doctype html><title>Another site</title>")
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        refuse_a_page_of(f"http://127.0.0.1:{other.server_port}/", browser, base)
        other.shutdown()


def refuse_a_page_of(site: str, browser: Any, base: str) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(site)
    refused = 'vea_web_requests_total{route="other",status="403"}'
    before = figure(base, refused)
    # Browsers send this one without asking first; what comes back they keep from the page.
    page.evaluate(
        "(url) => fetch(url, { method: 'POST', mode: 'no-cors', body: 'x' }).catch(() => 0)",
        base + "/predictions/tiny",
    )
    context.close()
    assert figure(base, refused) == before + 1


def figure(base: str, name: str) -> float:
    lines = send(base, "GET", "/metrics")[1].decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


def test_the_page_knows_which_emotions_are_positive() -> None:
    source = Path(__file__).parents[2] / "vea" / "web" / "page" / "wheel.js"
    listed = source.read_text().split("new Set([")[1].split("]")[0]
    named = {word.strip().strip('"') for word in listed.split(",") if word.strip()}
    assert named == {
        label for wheel in (MIKELS, EKMAN, POLARITY) for label in wheel.labels[: wheel.positives]
    }


def test_every_sample_is_on_the_page_with_words(visit: Visit) -> None:
    buttons = visit.page.locator("[data-sample]")
    assert [buttons.nth(i).get_attribute("data-sample") for i in range(buttons.count())] == [
        *SAMPLES
    ]
    for i in range(buttons.count()):
        button = buttons.nth(i)
        image = button.locator("img")
        assert image.get_attribute("alt") if image.count() else button.text_content()
