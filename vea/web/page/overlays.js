// The stimuli, drawn on the photo: object boxes shaded by attention, the face's box, the heat map.
// Boxes are in pixels of the photo after EXIF rotation, which is how browsers show it, too.

import { percent, svg } from "./wheel.js";

const DEEPEST = 0.62; // opacity of the shade of an object that has all the attention
const NAMED = 4;
const HEAT = [[44, 74, 160], [120, 180, 220], [250, 240, 190], [240, 120, 70], [178, 16, 38]];
const FINE = 8; // pixels of the drawn heat map for each of the network's

const NEARLY_ALL = 0.8; // of a side, above which a box is on neither end of it

/** What to call an object: its name, or, where no name is likely right, its place in the photo. */
export function nameOf(item, size) {
  if (item.label === null) return placeOf(item.box, size);
  return item.attribute ? `${item.attribute} ${item.label}` : item.label;
}

function placeOf([left, top, right, bottom], { width, height }) {
  if (right - left >= NEARLY_ALL * width && bottom - top >= NEARLY_ALL * height) return "whole photo";
  const [across, down] = [endOf(left, right, width), endOf(top, bottom, height)];
  if (across && down) return `${down < 0 ? "upper" : "lower"} ${across < 0 ? "left" : "right"}`;
  if (down) return down < 0 ? "top" : "bottom";
  return across ? (across < 0 ? "left" : "right") : "middle";
}

function endOf(first, last, side) {
  if (last - first >= NEARLY_ALL * side) return 0;
  const middle = (first + last) / 2 / side;
  return middle < 0.42 ? -1 : middle > 0.58 ? 1 : 0;
}

/** Draws boxes and names into an svg that lies over the photo. */
export function drawMarks(target, answer, shown) {
  const { width, height } = answer.image_size;
  target.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const scale = width / (target.clientWidth || width); // pixels of the photo for one of the screen
  const parts = [];
  const plates = [];
  const objects = shown.objects ? (answer.objects ?? []) : [];
  const weights = objects.map((item) => item.attention);
  const most = Math.max(...weights, 1e-9);
  // Even attention tells no object from another: an object is shaded by what it got more than the least.
  const least = objects.length > 1 ? Math.min(...weights) : 0;
  // The most attended one is drawn last, over the others.
  for (const item of [...objects].reverse()) {
    const depth = (item.attention - least) / most;
    parts.push(
      svg("rect", {
        ...rectangle(item.box, width, height),
        class: "object",
        "data-object": nameOf(item, answer.image_size),
        "fill-opacity": (DEEPEST * depth).toFixed(3),
        "stroke-opacity": (0.25 + 0.75 * depth).toFixed(3),
        "vector-effect": "non-scaling-stroke",
      }),
    );
  }
  const things = shown.objects ? (answer.detected ?? []) : [];
  const captions = captionsOf(objects, things, answer.image_size).slice(0, NAMED);
  for (const { item, name } of captions.filter((caption) => caption.thing)) {
    const place = rectangle(item.box, width, height);
    const marks = { class: "thing", "data-object": name, "vector-effect": "non-scaling-stroke" };
    parts.push(svg("rect", { ...place, ...marks }));
  }
  if (shown.face && answer.face?.box) {
    const place = rectangle(answer.face.box, width, height);
    parts.push(svg("rect", { ...place, class: "face", "vector-effect": "non-scaling-stroke" }));
    writeName(plates, answer.face.box, "face", scale, width, height, true);
  }
  for (const { item, name } of captions) {
    writeName(plates, item.box, `${name} ${percent(item.attention)}`, scale, width, height, false);
  }
  target.replaceChildren(...parts, ...plates.map((plate) => plate.element));
  target.setAttribute("aria-label", inWords(answer, shown));
}

// What is worth a name, most attended first: each detected thing, and each name of objects once.
function captionsOf(objects, things, size) {
  const some = things.length > 0 || objects.some((item) => item.label !== null);
  const first = new Map();
  for (const item of objects) {
    if (some && item.label === null) continue; // places are written where there is no name at all
    const name = nameOf(item, size);
    if (!first.has(name)) first.set(name, { item, name, thing: false });
  }
  const found = things.map((item) => ({ item, name: item.label, thing: true }));
  return [...found, ...first.values()].toSorted((a, b) => b.item.attention - a.item.attention);
}

/** Marks the objects of one name among the others, or none of them. */
export function highlight(target, name) {
  for (const box of target.querySelectorAll(".object, .thing")) {
    box.classList.toggle("chosen", box.dataset.object === name);
  }
}

/** Draws the activation map into a canvas that lies over the photo. */
export function drawHeat(canvas, answer) {
  const rows = answer.activation;
  if (!rows) return false;
  const { width, height } = answer.image_size;
  const [left, top, right, bottom] = answer.activation_box ?? [0, 0, width, height];
  canvas.style.left = `${(100 * left) / width}%`;
  canvas.style.top = `${(100 * top) / height}%`;
  canvas.style.width = `${(100 * (right - left)) / width}%`;
  canvas.style.height = `${(100 * (bottom - top)) / height}%`;
  canvas.width = rows[0].length * FINE;
  canvas.height = rows.length * FINE;
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(canvas.width, canvas.height);
  for (let y = 0; y < canvas.height; y += 1) {
    for (let x = 0; x < canvas.width; x += 1) {
      const value = between(rows, (x + 0.5) / FINE - 0.5, (y + 0.5) / FINE - 0.5);
      pixels.data.set([...heatColour(value), 255], 4 * (y * canvas.width + x));
    }
  }
  context.putImageData(pixels, 0, 0);
  return true;
}

// Catmull-Rom in both directions: seven rows of values look like hills, not like tiles.
function between(rows, x, y) {
  const [column, row] = [Math.floor(x), Math.floor(y)];
  const at = (list, i) => list[Math.min(Math.max(i, 0), list.length - 1)];
  const along = (values, t) =>
    values[1] + 0.5 * t * (values[2] - values[0] +
      t * (2 * values[0] - 5 * values[1] + 4 * values[2] - values[3] +
        t * (3 * (values[1] - values[2]) + values[3] - values[0])));
  const around = [-1, 0, 1, 2];
  const lines = around.map((dy) => {
    const line = at(rows, row + dy);
    return along(around.map((dx) => at(line, column + dx)), x - column);
  });
  return Math.min(Math.max(along(lines, y - row), 0), 1);
}

function heatColour(value) {
  const place = value * (HEAT.length - 1);
  const low = Math.min(Math.floor(place), HEAT.length - 2);
  return HEAT[low].map((channel, i) => channel + (place - low) * (HEAT[low + 1][i] - channel));
}

function rectangle([left, top, right, bottom], width, height) {
  const [x, y] = [Math.max(left, 0), Math.max(top, 0)];
  return {
    x, y,
    width: Math.max(Math.min(right, width) - x, 0),
    height: Math.max(Math.min(bottom, height) - y, 0),
  };
}

function writeName(plates, box, words, scale, width, height, outside) {
  const size = 13 * scale;
  const wide = (7.1 * words.length + 12) * scale;
  const high = 20 * scale;
  const [left, top, right, bottom] = box;
  const places = [
    [left + 2 * scale, top + 2 * scale], [left + 2 * scale, bottom - high - 2 * scale],
    [right - wide - 2 * scale, top + 2 * scale], [left, top - high], [left, bottom],
  ];
  if (outside) places.reverse();
  for (const [wishedX, wishedY] of places) {
    const x = Math.min(Math.max(wishedX, 0), Math.max(width - wide, 0));
    const y = Math.min(Math.max(wishedY, 0), Math.max(height - high, 0));
    const taken = plates.some(
      (other) => x < other.x + other.wide && other.x < x + wide &&
        y < other.y + other.high && other.y < y + high,
    );
    if (taken || wide > width) continue;
    const element = svg("g", { class: "plate" });
    element.append(
      svg("rect", { x, y, width: wide, height: high, rx: 4 * scale }),
      svg("text", { x: x + 6 * scale, y: y + 14.5 * scale, "font-size": size }, words),
    );
    plates.push({ x, y, wide, high, element });
    return;
  }
}

function inWords(answer, shown) {
  const said = [];
  if (shown.objects && answer.objects?.length) {
    const names = [...(answer.detected ?? []), ...answer.objects]
      .toSorted((a, b) => b.attention - a.attention)
      .slice(0, NAMED)
      .map((item) => `${nameOf(item, answer.image_size)} ${percent(item.attention)}`);
    said.push(`objects by attention: ${names.join(", ")}`);
  }
  if (shown.face && answer.face) said.push(answer.face.found ? "the face in a frame" : "no face");
  return said.length ? `On the photo: ${said.join("; ")}` : "Nothing is drawn on the photo";
}
