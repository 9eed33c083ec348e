// The probabilities as an emotion wheel: equal angles, positive emotions on the right, and the area of
// a sector proportional to its probability, so that twice as much looks twice as much.

const POSITIVE = new Set([
  "amusement", "awe", "contentment", "excitement", "joy", "surprise", "positive",
]);
const MIKELS = [
  "amusement", "awe", "contentment", "excitement", "anger", "disgust", "fear", "sadness",
];
const RINGS = [0.25, 0.5, 1];
const CENTRE = [230, 180];
const NARROW = 340; // pixels of the screen; below, a smaller wheel leaves room for larger names

export const isPositive = (label) => POSITIVE.has(label);
export const polarityOf = (label) => (isPositive(label) ? "positive" : "negative");

/** A share from 0 to 1 in whole per cent; what would round to nothing is <1 %. */
export function percent(share) {
  return share > 0 && share < 0.005 ? "<1\u00a0%" : `${Math.round(100 * share)}\u00a0%`;
}

/** An SVG element with attributes and perhaps text. */
export function svg(name, attributes = {}, text = null) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== null) element.textContent = text;
  return element;
}

/** Draws the wheel into an svg of 460 by 360; without probabilities an empty one. */
export function drawWheel(target, probabilities = null) {
  const labels = probabilities ? Object.keys(probabilities) : MIKELS;
  const narrow = target.clientWidth > 0 && target.clientWidth < NARROW;
  const radius = narrow ? 100 : 132;
  target.classList.toggle("narrow", narrow);
  const step = (2 * Math.PI) / labels.length;
  const first = (-step * labels.filter(isPositive).length) / 2;
  const top = probabilities
    ? labels.reduce((a, b) => (probabilities[b] > probabilities[a] ? b : a))
    : null;
  const parts = [];
  labels.forEach((label, i) => {
    const from = first + i * step;
    const share = probabilities ? probabilities[label] : 0;
    const side = polarityOf(label);
    parts.push(svg("path", { d: sector(radius, from, step), class: `ground ${side}` }));
    if (share > 0) {
      const reach = radius * Math.sqrt(share);
      const kind = `share ${side}${label === top ? " top" : ""}`;
      parts.push(svg("path", { d: sector(reach, from, step), class: kind }));
    }
  });
  for (const ring of RINGS) {
    const [cx, cy] = CENTRE;
    parts.push(svg("circle", { cx, cy, r: radius * Math.sqrt(ring), class: "ring" }));
  }
  labels.forEach((label, i) => {
    parts.push(...nameOf(label, first + (i + 0.5) * step, radius, probabilities, label === top));
  });
  target.replaceChildren(...parts);
  const words = probabilities
    ? labels
        .toSorted((a, b) => probabilities[b] - probabilities[a])
        .map((label) => `${label} ${percent(probabilities[label])}`)
        .join(", ")
    : "empty";
  target.setAttribute("aria-label", `Wheel of emotions: ${words}`);
}

function sector(radius, from, step) {
  const [x, y] = CENTRE;
  const at = (angle) => `${x + radius * Math.cos(angle)} ${y + radius * Math.sin(angle)}`;
  return `M${x} ${y}L${at(from)}A${radius} ${radius} 0 0 1 ${at(from + step)}Z`;
}

function nameOf(label, angle, radius, probabilities, isTop) {
  const [across, down] = [Math.cos(angle), Math.sin(angle)];
  const x = CENTRE[0] + (radius + 12) * across;
  const y = CENTRE[1] + (radius + 12) * down + 14 * down;
  const anchor = across > 0.2 ? "start" : across < -0.2 ? "end" : "middle";
  const kind = isTop ? `name top ${polarityOf(label)}` : "name";
  const name = svg("text", { x, y: probabilities ? y - 2 : y + 5, "text-anchor": anchor, class: kind }, label);
  if (!probabilities) return [name];
  const number = svg(
    "text",
    { x, y: y + (radius < 132 ? 19 : 15), "text-anchor": anchor, class: isTop ? "number top" : "number" },
    percent(probabilities[label]),
  );
  return [name, number];
}
