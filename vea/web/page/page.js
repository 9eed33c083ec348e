// The page: takes a photo, asks the gateway about it, and shows what it says.

import { ask, listModels, NeedsKey, Refused, setKey } from "./gateway.js";
import { drawHeat, drawMarks, highlight } from "./overlays.js";
import { fillReasons } from "./reasons.js";
import { drawWheel, percent, polarityOf } from "./wheel.js";

const get = (id) => document.getElementById(id);
const file = get("file");
const photo = get("photo");
const marks = get("marks");
const heat = get("heat");
const stage = get("stage");
const layers = { objects: get("show-objects"), face: get("show-face"), heat: get("show-heat") };
let answer = null;
let last = null; // the photo under way or shown: its bytes, and what to call it
let underWay = null;
let address = null;
const summaries = new Map(); // of each version of a model, what its card says

drawWheel(get("wheel"));
findModels();

file.addEventListener("change", () => {
  if (file.files[0]) consider(file.files[0], file.files[0].name);
  file.value = ""; // the same file may be chosen again
});
for (const button of document.querySelectorAll("[data-sample]")) {
  button.addEventListener("click", () => trySample(button));
}
document.addEventListener("paste", (event) => {
  const pasted = event.clipboardData?.files?.[0];
  if (!pasted) return;
  event.preventDefault();
  consider(pasted, "the pasted photo");
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragging");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dragging");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  const dropped = event.dataTransfer?.files?.[0];
  if (dropped) consider(dropped, dropped.name);
  else complain("what was dropped is no file", "Save the photo first, and drop the file.");
});
for (const box of Object.values(layers)) box.addEventListener("change", redraw);
new ResizeObserver(redraw).observe(get("frame"));
get("copy").addEventListener("click", copy);
get("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setKey(get("key").value.trim());
  findModels();
  if (last) consider(last.blob, last.name);
});
get("model").addEventListener("change", () => last && consider(last.blob, last.name));

async function trySample(button) {
  const name = button.dataset.sample;
  try {
    const response = await fetch(`/samples/${name}`);
    if (!response.ok) throw new Error(String(response.status));
    await consider(await response.blob(), button.querySelector("img")?.alt ?? "the broken file");
  } catch {
    complain("the gateway does not answer", "Is vea web still running?");
  }
}

/** Shows a photo and asks about it; a photo that comes meanwhile takes its place. */
async function consider(blob, name) {
  underWay?.abort();
  const mine = new AbortController();
  underWay = mine;
  last = { blob, name };
  answer = null;
  get("error").replaceChildren();
  get("status").textContent = "Asking …";
  stage.setAttribute("aria-busy", "true");
  stage.classList.remove("empty");
  show(blob, name);
  redraw();
  try {
    const [model, version] = JSON.parse(get("model").value || "[]");
    const found = await ask(blob, model, version, mine.signal);
    if (underWay !== mine) return;
    answer = found;
    present(name);
  } catch (error) {
    if (underWay === mine) fail(error);
  } finally {
    if (underWay === mine) stage.removeAttribute("aria-busy");
  }
}

function show(blob, name) {
  if (address) URL.revokeObjectURL(address);
  address = URL.createObjectURL(blob);
  get("no-picture").hidden = true;
  photo.hidden = false;
  photo.alt = name;
  photo.onerror = () => {
    photo.hidden = true;
    redraw();
  };
  photo.onload = redraw;
  photo.src = address;
}

function present(name) {
  const { emotion, probabilities, polarity } = answer;
  const word = document.createElement("b");
  word.textContent = emotion;
  get("emotion").className = `emotion ${polarityOf(emotion)}`;
  get("emotion").replaceChildren(word, ` ${percent(probabilities[emotion])}`);
  get("polarity").textContent =
    `On the whole ${polarity.label}: ${percent(polarity.probability)}.`;
  drawWheel(get("wheel"), probabilities);
  balance(polarity);
  fillReasons(answer, summaries.get(get("model").value) ?? "", (name) => highlight(marks, name));
  get("json").textContent = pretty(answer);
  get("reasons").hidden = false;
  get("raw").hidden = false;
  get("layers").disabled = false;
  layers.heat.disabled = !answer.activation;
  redraw();
  get("status").textContent =
    `${name}: ${emotion}, ${percent(probabilities[emotion])}; on the whole ${polarity.label}.`;
}

function balance({ label, probability }) {
  const positive = label === "positive" ? probability : 1 - probability;
  get("balance").hidden = false;
  get("balance").querySelector(".positive").style.flexGrow = positive;
  get("balance").querySelector(".negative").style.flexGrow = 1 - positive;
  const words = [["negative", 1 - positive], ["positive", positive]].map(([side, share]) => {
    const span = document.createElement("span");
    span.textContent = `${side} ${percent(share)}`;
    span.className = side;
    return span;
  });
  get("balance-words").replaceChildren(...words);
}

function redraw() {
  const warm = Boolean(answer && layers.heat.checked && answer.activation);
  stage.classList.toggle("warm", warm);
  heat.hidden = !warm;
  get("no-picture").hidden = !(answer && photo.hidden);
  const frame = get("frame");
  frame.style.aspectRatio =
    answer && photo.hidden ? `${answer.image_size.width} / ${answer.image_size.height}` : "";
  if (!answer) {
    marks.replaceChildren();
    marks.setAttribute("aria-label", "Nothing is drawn on the photo yet");
    return;
  }
  drawMarks(marks, answer, { objects: layers.objects.checked, face: layers.face.checked });
  if (warm) drawHeat(heat, answer);
}

function fail(error) {
  clear();
  if (error instanceof NeedsKey) {
    askForKey();
    complain("this gateway asks for an API key", error.message);
  } else if (error instanceof Refused) {
    const again = error.code >= 429 && error.code !== 431;
    complain(
      again ? "there is no answer just now" : "the model cannot read this file",
      `${error.message}.`,
      again && last ? () => consider(last.blob, last.name) : null,
    );
  } else {
    complain("the gateway does not answer", "Is vea web still running?", () =>
      consider(last.blob, last.name));
  }
}

function clear() {
  get("status").textContent = "";
  get("reasons").hidden = true;
  get("raw").hidden = true;
  get("balance").hidden = true;
  get("balance-words").replaceChildren();
  get("layers").disabled = true;
  get("emotion").className = "emotion";
  const word = document.createElement("b");
  word.textContent = "No answer";
  get("emotion").replaceChildren(word);
  get("polarity").textContent = "The message above says why.";
  drawWheel(get("wheel"));
}

function complain(what, why, again = null) {
  const title = document.createElement("strong");
  title.textContent = `${what[0].toUpperCase()}${what.slice(1)}.`;
  const words = document.createElement("span");
  words.textContent = ` ${why[0].toUpperCase()}${why.slice(1)} `;
  const parts = [title, words];
  if (again) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "button quiet";
    button.textContent = "Try again";
    button.addEventListener("click", again);
    parts.push(button);
  }
  get("error").replaceChildren(...parts);
}

function askForKey() {
  get("key-form").hidden = false;
  get("key").focus();
}

async function findModels() {
  try {
    const models = await listModels();
    const choices = models.flatMap(({ name, default: main, versions }) =>
      versions.map(({ version, ready, card }) => {
        const option = document.createElement("option");
        option.value = JSON.stringify([name, version]);
        option.textContent = `${name} ${version}${version === main && versions.length > 1 ? ", default" : ""}`;
        option.selected = version === main && name === models[0].name;
        option.disabled = !ready;
        summaries.set(option.value, card.summary ?? "");
        return option;
      }),
    );
    get("model").replaceChildren(...choices);
    get("model").disabled = choices.length < 2;
    get("key-form").hidden = true;
  } catch (error) {
    if (error instanceof NeedsKey) askForKey();
    else complain("the models cannot be listed", error.message || "Is vea web still running?", findModelsAgain);
  }
}

function findModelsAgain() {
  get("error").replaceChildren();
  findModels();
}

/** JSON with lists of numbers on one line each: an activation map is a table. */
function pretty(document_) {
  return JSON.stringify(document_, null, 2).replace(
    /\[\s+((?:-?[\d.e+-]+,?\s+)+)\]/g,
    (_, numbers) => `[${numbers.trim().replace(/\s+/g, " ")}]`,
  );
}

async function copy() {
  const button = get("copy");
  const text = get("json").textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
    get("status").textContent = "The JSON is copied.";
  } catch {
    // Without https the clipboard is closed to pages: what is selected can still be copied.
    getSelection().selectAllChildren(get("json"));
    get("json").focus();
    button.textContent = "Selected: press Ctrl+C";
    get("status").textContent = "The JSON is selected; copy it with Control and C.";
  }
  setTimeout(() => (button.textContent = "Copy"), 2500);
}
