// Things that a detector found beside the objects, and the attention that their boxes hold.
// An object's attention is spread evenly over its box; what several boxes cover counts once.

const IRREGULAR = { person: "people", bus: "buses", bench: "benches" };

/** The kinds of things with their number, the attention to each kind, and what they are drawn as. */
export function kindsOf(answer) {
  const kinds = new Map();
  for (const thing of answer.detected ?? []) {
    kinds.set(thing.label, [...(kinds.get(thing.label) ?? []), thing.box]);
  }
  return [...kinds].map(([label, boxes]) => ({
    label,
    words: boxes.length === 1 ? label : `${boxes.length} ${IRREGULAR[label] ?? `${label}s`}`,
    attention: attentionWithin(answer.objects ?? [], boxes),
  }));
}

function attentionWithin(objects, boxes) {
  let total = 0;
  for (const { box, attention } of objects) {
    const area = (box[2] - box[0]) * (box[3] - box[1]);
    const inside = boxes.map((other) => meet(box, other)).filter(([x1, y1, x2, y2]) => x2 > x1 && y2 > y1);
    if (area > 0) total += (attention * covered(inside)) / area;
  }
  return total;
}

const meet = (one, other) => [
  Math.max(one[0], other[0]), Math.max(one[1], other[1]), Math.min(one[2], other[2]), Math.min(one[3], other[3]),
];

function covered(boxes) {
  const columns = boxes.flatMap(([left, , right]) => [left, right]).toSorted((a, b) => a - b);
  let area = 0;
  for (let i = 0; i + 1 < columns.length; i += 1) {
    const strips = boxes
      .filter((box) => box[0] <= columns[i] && box[2] >= columns[i + 1])
      .map((box) => [box[1], box[3]])
      .toSorted((a, b) => a[0] - b[0]);
    let [height, reached] = [0, -Infinity];
    for (const [top, bottom] of strips) {
      height += Math.max(bottom - Math.max(top, reached), 0);
      reached = Math.max(reached, bottom);
    }
    area += (columns[i + 1] - columns[i]) * height;
  }
  return area;
}
