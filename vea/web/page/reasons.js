// The reasons in words: objects by attention, the face, and which model said so.

import { nameOf } from "./overlays.js";
import { kindsOf } from "./things.js";
import { percent } from "./wheel.js";

const LISTED = 6;
const get = (id) => document.getElementById(id);
let cropAddress = null;

/** Fills the cards beside the wheel; `point` marks the objects of a name on the photo, or none. */
export function fillReasons(answer, summary, point) {
  fillObjects(answer, point);
  fillFace(answer.face);
  const { name, version, digest } = answer.model;
  get("model-name").textContent = name;
  get("model-version").textContent = version;
  get("model-digest").textContent = digest.slice(0, 16);
  get("model-digest").title = digest;
  get("model-summary").textContent = summary;
}

function fillObjects(answer, point) {
  const objects = answer.objects ?? [];
  const kinds = kindsOf(answer);
  // All objects of a name together, as people think of them; then the places without a name.
  const together = [new Map(), new Map()];
  for (const item of objects) {
    const sums = together[item.label === null ? 1 : 0];
    const name = nameOf(item, answer.image_size);
    sums.set(name, (sums.get(name) ?? 0) + item.attention);
  }
  // Detected things stand among the names. Where both name the same, the box tells it more exactly.
  for (const { label, words, attention } of kinds) {
    together[0].delete(label);
    together[0].set(words, attention);
  }
  get("detected-hint").hidden = !kinds.length;
  const detected = new Map(kinds.map(({ label, words }) => [words, label]));
  const sorted = together.map((sums) => [...sums].toSorted((a, b) => b[1] - a[1]));
  const places = new Set(together[1].keys());
  const ranked = sorted.flat().slice(0, LISTED);
  const strongest = Math.max(...ranked.map(([, attention]) => attention), 1e-9);
  const rows = ranked.map(([words, attention]) => {
    const row = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    const name = document.createElement("span");
    name.textContent = words;
    if (places.has(words)) name.className = "place";
    if (detected.has(words)) name.className = "detected";
    const bar = document.createElement("i");
    bar.style.width = `${(100 * attention) / strongest}%`;
    const share = document.createElement("b");
    share.textContent = percent(attention);
    button.append(name, share, bar);
    button.setAttribute("aria-pressed", "false");
    const settle = (on) => {
      for (const other of row.parentElement.querySelectorAll("button")) {
        other.setAttribute("aria-pressed", String(on && other === button));
      }
      point(on ? marked : null);
    };
    const marked = detected.get(words) ?? words;
    button.addEventListener("click", () => settle(button.getAttribute("aria-pressed") !== "true"));
    button.addEventListener("mouseenter", () => point(marked));
    button.addEventListener("mouseleave", () => point(null));
    row.append(button);
    return row;
  });
  if (!rows.length) {
    const none = document.createElement("li");
    none.textContent = "No object was found.";
    rows.push(none);
  }
  get("objects").replaceChildren(...rows);
}

function fillFace(face) {
  // A service that looks for no faces says nothing of them.
  get("face-part").hidden = !face;
  get("show-face").closest("label").hidden = !face;
  if (!face) return;
  const others = face.count - 1;
  get("face-words").textContent = !face.found
    ? "No face was found, so the picture speaks without one."
    : others > 0
      ? `The largest of ${face.count}; it is in a frame on the photo.`
      : "It is in a frame on the photo.";
  if (cropAddress) URL.revokeObjectURL(cropAddress);
  cropAddress = face.crop ? URL.createObjectURL(fromBase64(face.crop)) : null;
  get("crop").hidden = !cropAddress;
  if (cropAddress) get("crop").src = cropAddress;
  else get("crop").removeAttribute("src");
}

function fromBase64(text) {
  return new Blob([Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))], { type: "image/png" });
}
