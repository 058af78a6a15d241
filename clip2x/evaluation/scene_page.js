// Of scene.html and of pages of single clouds, which have no objects, no list and no slider; put into the page when it is written. Draws points and boxes on a canvas, without WebGL and without any library.
"use strict";
const scene = JSON.parse(document.getElementById("scene").textContent);
const canvas = document.querySelector("canvas"), pen = canvas.getContext("2d");
const live = document.querySelector(".live"), slider = document.querySelector("input[type=range]"), shownFrom = document.querySelector("output");
const rows = [...document.querySelectorAll("tr[data-object]")];
const bytes = (packed) => Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
const packed = new Int16Array(bytes(scene.points).buffer), owner = new Int16Array(bytes(scene.owner).buffer);
const pictured = scene.colours ? bytes(scene.colours) : null;
const count = owner.length, DARK = [20, 24, 31], FIELD = 0.41; // tangent of half the field of view
const extent = scene.high.map((value, axis) => value - scene.low[axis]);
const radius = Math.hypot(...extent) / 2;
const first = { turn: 0.45, rise: scene.dot ? 0.4 : 0.65, distance: (scene.dot ? 3.2 : 2.2) * radius, at: [0, 0, 0] };
let eye = structuredClone(first), chosen = -1, titles = true, ofPictures = Boolean(pictured), waiting = false;

const tints = new Uint8Array(3 * count), pictureTints = new Uint8Array(3 * count);
for (let i = 0; i < count; i++) {
  const high = (packed[3 * i + 2] * scene.step + extent[2] / 2) / Math.max(extent[2], 0.1);
  const grey = (scene.dot ? 120 : 80) + 110 * Math.min(Math.max(high, 0), 1);
  const own = owner[i] < 0 ? [grey, grey, grey] : scene.objects[owner[i]].colour;
  for (let c = 0; c < 3; c++) {
    tints[3 * i + c] = own[c];
    pictureTints[3 * i + c] = pictured && pictured[4 * i + 3] ? 45 + 0.82 * pictured[4 * i + c] : own[c]; // dark things show on the dark ground
  }
}

// The camera circles around `at` (relative to the middle); turn 0 looks along `ahead`, rise is the angle from above the horizon.
function axes() {
  const [ax, ay] = scene.ahead, c = Math.cos(eye.turn), s = Math.sin(eye.turn);
  const level = [c * ax + s * ay, c * ay - s * ax];
  const cr = Math.cos(eye.rise), sr = Math.sin(eye.rise);
  return { right: [level[1], -level[0], 0], up: [level[0] * sr, level[1] * sr, cr], forward: [level[0] * cr, level[1] * cr, -sr] };
}

const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];

function draw() {
  waiting = false;
  const ratio = Math.min(window.devicePixelRatio || 1, 2), box = canvas.getBoundingClientRect();
  const width = Math.max(1, Math.round(box.width * ratio)), height = Math.max(1, Math.round(box.height * ratio));
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  const { right, up, forward } = axes(), focal = Math.min(width, height * 1.2) / 2 / FIELD;
  const from = eye.at.map((value, axis) => value - forward[axis] * eye.distance);
  const image = pen.createImageData(width, height), pixels = new Uint32Array(image.data.buffer), depths = new Float32Array(width * height).fill(Infinity);
  pixels.fill((255 << 24) | (DARK[2] << 16) | (DARK[1] << 8) | DARK[0]);
  const colours = ofPictures ? pictureTints : tints, step = scene.step;
  const base = Math.max(1, Math.round(ratio * 1.4)), wide = (scene.dot || Math.min(0.03, 0.004 * radius)) * focal; // metres a point covers, at least and at most so many pixels
  for (let i = 0; i < count; i++) {
    const x = packed[3 * i] * step - from[0], y = packed[3 * i + 1] * step - from[1], z = packed[3 * i + 2] * step - from[2];
    const depth = x * forward[0] + y * forward[1] + z * forward[2];
    if (depth < 0.05) continue;
    const u = Math.round(width / 2 + focal * (x * right[0] + y * right[1]) / depth);
    const v = Math.round(height / 2 - focal * (x * up[0] + y * up[1] + z * up[2]) / depth);
    const mine = chosen >= 0 && owner[i] === chosen, size = Math.min(Math.max(Math.round(wide / depth), base), 4 * base) + (mine ? 1 : 0);
    const value = mine ? 0xffffffff : (255 << 24) | (colours[3 * i + 2] << 16) | (colours[3 * i + 1] << 8) | colours[3 * i];
    for (let row = Math.max(v, 0); row < Math.min(v + size, height); row++) {
      for (let column = Math.max(u, 0); column < Math.min(u + size, width); column++) {
        const place = row * width + column;
        if (depth < depths[place]) { depths[place] = depth; pixels[place] = value; }
      }
    }
  }
  pen.putImageData(image, 0, 0);
  const project = (point) => {
    const away = point.map((value, axis) => value - scene.middle[axis] - from[axis]);
    return [dot(away, right), dot(away, up), dot(away, forward)];
  };
  const place = ([x, y, z]) => [width / 2 + focal * x / z, height / 2 - focal * y / z];
  const anchors = [];
  scene.objects.forEach((item, number) => {
    if (!visible(item) && number !== chosen) return;
    const corners = item.corners.map(project);
    pen.strokeStyle = number === chosen ? "#fff" : `rgb(${item.colour})`;
    pen.lineWidth = (number === chosen ? 3 : 1.5) * ratio;
    pen.setLineDash(item.named ? [] : [5 * ratio, 4 * ratio]);
    pen.beginPath();
    for (let a = 0; a < 8; a++) {
      for (const bit of [1, 2, 4]) {
        if (a & bit) continue;
        const [p, q] = [corners[a], corners[a | bit]], near = 0.05;
        if (p[2] < near && q[2] < near) continue;
        const cut = (one, other) => one[2] >= near ? one
          : one.map((value, axis) => value + (near - one[2]) / (other[2] - one[2]) * (other[axis] - value));
        pen.moveTo(...place(cut(p, q)));
        pen.lineTo(...place(cut(q, p)));
      }
    }
    pen.stroke();
    const top = corners.filter((corner) => corner[2] > 0.05).map(place).sort((a, b) => a[1] - b[1])[0];
    if (top) anchors.push({ item, number, top, depth: Math.min(...corners.map((corner) => corner[2])) });
  });
  pen.setLineDash([]);
  if (titles || chosen >= 0) writeTitles(anchors, ratio, width, height);
}

// Nearest first, the chosen one before all; where a name finds no room its number stands, or nothing.
function writeTitles(anchors, ratio, width, height) {
  const size = 13 * ratio, taken = [];
  pen.font = `${size}px system-ui, sans-serif`;
  pen.textBaseline = "top";
  anchors.sort((a, b) => (b.number === chosen) - (a.number === chosen) || a.depth - b.depth);
  for (const { item, number, top } of anchors) {
    if (!titles && number !== chosen) continue;
    const full = number === chosen ? `${item.title} ${Math.round(100 * item.labels[0][1])} %` : item.title;
    search: for (const words of [full, String(item.number)]) {
      const wide = pen.measureText(words).width + 6 * ratio, high = size + 5 * ratio;
      for (const lift of [1, 2, 3]) {
        const left = Math.min(Math.max(top[0] - wide / 2, 0), width - wide), above = top[1] - lift * high;
        if (above < 0 || above > height || top[0] < 0 || top[0] > width) continue;
        if (taken.some(([l, t, r, b]) => left < r && l < left + wide && above < b && t < above + high)) continue;
        taken.push([left, above, left + wide, above + high]);
        pen.fillStyle = "rgba(20,24,31,.85)";
        pen.fillRect(left, above, wide, high);
        pen.strokeStyle = number === chosen ? "#fff" : `rgb(${item.colour})`;
        pen.lineWidth = ratio;
        pen.strokeRect(left, above, wide, high);
        pen.fillStyle = "#fff";
        pen.fillText(words, left + 3 * ratio, above + 3 * ratio);
        break search;
      }
    }
  }
}

const visible = (item) => 100 * item.labels[0][1] >= Number(slider ? slider.value : 0);

function ask() {
  if (!waiting) { waiting = true; requestAnimationFrame(draw); }
}

function turn(across, along) {
  eye.turn += across;
  eye.rise = Math.min(Math.max(eye.rise + along, -0.2), Math.PI / 2);
  ask();
}

function move(across, along) { // shares of the picture
  const { right, up, forward } = axes(), reach = 2 * FIELD * eye.distance;
  const flat = Math.abs(up[2]) > 0.98 ? up : [forward[0], forward[1], 0], length = Math.hypot(flat[0], flat[1]) || 1;
  eye.at = eye.at.map((value, axis) => value - across * reach * right[axis] + (axis < 2 ? along * reach * flat[axis] / length : 0));
  ask();
}

function zoom(factor) {
  eye.distance = Math.min(Math.max(eye.distance * factor, 0.02 * radius), 12 * radius);
  ask();
}

function choose(number, go = true) {
  chosen = number;
  rows.forEach((row, place) => row.classList.toggle("chosen", place === number));
  if (number < 0) { if (live) live.textContent = ""; return ask(); }
  const item = scene.objects[number], low = [0, 1, 2].map((axis) => Math.min(...item.corners.map((corner) => corner[axis])));
  const high = [0, 1, 2].map((axis) => Math.max(...item.corners.map((corner) => corner[axis])));
  live.textContent = `${item.title}: ${item.labels.map(([name, share]) => `${name} ${Math.round(100 * share)} %`).join(", ")}; `
    + `${item.points} points, ${item.range} m` + (item.truth ? `; annotated: ${item.truth}` : "");
  if (go) {
    eye.at = low.map((value, axis) => (value + high[axis]) / 2 - scene.middle[axis]);
    eye.distance = Math.max(4 * Math.hypot(...high.map((value, axis) => value - low[axis])), 0.25 * radius);
  }
  rows[number].scrollIntoView({ block: "nearest" });
  ask();
}

function next(step) {
  const open = scene.objects.map((item, number) => number).filter((number) => visible(scene.objects[number]));
  if (open.length) choose(open[(open.indexOf(chosen) + step + (chosen < 0 && step < 0 ? 1 : 0) + open.length) % open.length]);
}

const actions = {
  "turn-left": () => turn(-0.2, 0), "turn-right": () => turn(0.2, 0), closer: () => zoom(0.8), farther: () => zoom(1.25),
  above: () => { eye.rise = Math.PI / 2; eye.turn = 0; ask(); }, home: () => { eye = structuredClone(first); choose(-1); },
  previous: () => next(-1), next: () => next(1), titles: () => { titles = !titles; ask(); }, colours: () => { ofPictures = pictured && !ofPictures; ask(); },
};
document.querySelectorAll("[data-do]").forEach((button) => {
  if (button.dataset.do === "colours" && !pictured) button.remove();
  button.addEventListener("click", actions[button.dataset.do]);
});
rows.forEach((row, number) => row.addEventListener("click", () => choose(number)));
if (slider) slider.addEventListener("input", () => {
  shownFrom.textContent = `${slider.value} %`;
  rows.forEach((row, number) => row.classList.toggle("hidden", !visible(scene.objects[number])));
  ask();
});

const keys = {
  ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1], "+": "closer", "=": "closer", "-": "farther", n: "next", p: "previous",
  t: "above", Home: "home", l: "titles", c: "colours",
};
document.addEventListener("keydown", (event) => {
  const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act || event.ctrlKey || event.metaKey || event.altKey || event.target === slider) return;
  if (typeof act === "string") actions[act]();
  else if (document.activeElement !== canvas && document.activeElement !== document.body) return;
  else if (event.shiftKey) move(-0.06 * act[0], 0.06 * act[1]);
  else turn(0.1 * act[0], 0.1 * act[1]);
  event.preventDefault();
});

const fingers = new Map();
canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  fingers.set(event.pointerId, [event.clientX, event.clientY]);
});
canvas.addEventListener("pointermove", (event) => {
  const before = fingers.get(event.pointerId);
  if (!before) return;
  const now = [event.clientX, event.clientY], box = canvas.getBoundingClientRect();
  const across = now[0] - before[0], along = now[1] - before[1];
  if (fingers.size > 1) {
    const [other] = [...fingers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
    const apart = (place) => Math.hypot(place[0] - other[0], place[1] - other[1]) || 1;
    zoom(apart(before) / apart(now));
    move(across / 2 / box.width, along / 2 / box.height);
  } else if (event.shiftKey || event.buttons & 2) move(across / box.width, along / box.height);
  else turn(-across * 0.006, along * 0.006);
  fingers.set(event.pointerId, now);
});
for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, (event) => fingers.delete(event.pointerId));
canvas.addEventListener("contextmenu", (event) => event.preventDefault());
canvas.addEventListener("wheel", (event) => { zoom(Math.exp(event.deltaY * 0.001)); event.preventDefault(); }, { passive: false });
new ResizeObserver(ask).observe(canvas);
ask();
