// The page of index.html: draws, trains and predicts with the network in digits.wasm.
import { Model } from "./digits.mjs";

const PIXELS = 64, SIZE = 32; // numbers of an image; points of a side of a drawing, four for each pixel
const find = (id) => document.getElementById(id);
const drawing = find("drawing"), pen = drawing.getContext("2d", { willReadFrequently: true });
const history = { loss: [], accuracy: [] };
let model, train, test, order, isBusy = false, hasDrawn = false;

/** Splits the data set into its two parts: images from 0 to 1, and labels. */
function parts(bytes, training) {
  const count = bytes.length / (PIXELS + 1);
  const images = new Float32Array(count * PIXELS), labels = new Int32Array(count);
  for (let i = 0; i < count; i++) {
    for (let j = 0; j < PIXELS; j++) images[i * PIXELS + j] = bytes[i * (PIXELS + 1) + j] / 16;
    labels[i] = bytes[i * (PIXELS + 1) + PIXELS];
  }
  const part = (begin, end) => ({ images: images.subarray(begin * PIXELS, end * PIXELS), labels: labels.subarray(begin, end) });
  return [part(0, training), part(training, count)];
}

function shuffle(numbers) {
  for (let i = numbers.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [numbers[i], numbers[j]] = [numbers[j], numbers[i]];
  }
}

/** One pass over the digits; the few that do not fill the last batch wait for the next one. Returns the loss. */
function epoch() {
  shuffle(order);
  model.resetMetrics();
  const images = new Float32Array(Model.batch * PIXELS), labels = new Int32Array(Model.batch);
  let logs;
  for (let at = 0; at + Model.batch <= order.length; at += Model.batch) {
    for (let i = 0; i < Model.batch; i++) {
      const which = order[at + i];
      images.set(train.images.subarray(which * PIXELS, (which + 1) * PIXELS), i * PIXELS);
      labels[i] = train.labels[which];
    }
    logs = model.trainStep(images, labels);
  }
  return logs.loss;
}

const best = (outputs) => outputs.indexOf(Math.max(...outputs));

function accuracy() {
  const outputs = model.predict(test.images);
  const right = test.labels.filter((label, i) => best(outputs.subarray(i * 10, (i + 1) * 10)) === label);
  return right.length / test.labels.length;
}

async function trainEpochs(count) {
  if (isBusy) return;
  isBusy = find("train").disabled = find("reset").disabled = true;
  try {
    for (let i = 0; i < count; i++) {
      const start = performance.now();
      history.loss.push(epoch());
      const took = performance.now() - start;
      history.accuracy.push(accuracy());
      show(took);
      await new Promise((resolve) => setTimeout(resolve)); // lets the browser draw
    }
  } catch (error) {
    find("status").textContent = `Training stopped. ${error.message}`;
  }
  isBusy = find("train").disabled = find("reset").disabled = false;
}

function show(took) {
  const { loss, accuracy } = history, last = loss.length - 1;
  find("status").textContent = `Epoch ${loss.length}: loss ${loss[last].toFixed(3)}, accuracy ${(accuracy[last] * 100).toFixed(1)} %. `
    + `It took ${Math.round(took)} ms for ${order.length} digits.`;
  chart();
  recognise();
}

function chart() {
  const steps = Math.max(history.loss.length - 1, 1), top = Math.max(1e-9, ...history.loss);
  for (const [id, scale] of [["loss", top], ["accuracy", 1]])
    find(id).setAttribute("points", history[id].map((y, i) => `${(i / steps) * 300},${98 - (y / scale) * 96}`).join(" "));
}

/** The drawing as an image of the data set: cropped, with 32x32 points, of which it counts the black ones in squares of 4x4. */
function image() {
  const { data } = pen.getImageData(0, 0, drawing.width, drawing.height);
  const isBlack = (x, y) => data[(y * drawing.width + x) * 4 + 3] > 127;
  let [left, top, right, bottom] = [drawing.width, drawing.height, -1, -1];
  for (let y = 0; y < drawing.height; y++)
    for (let x = 0; x < drawing.width; x++)
      if (isBlack(x, y)) [left, top, right, bottom] = [Math.min(left, x), Math.min(top, y), Math.max(right, x), Math.max(bottom, y)];
  const side = Math.max(right - left, bottom - top) + 1;
  const [x0, y0] = [(left + right + 1 - side) / 2, (top + bottom + 1 - side) / 2];
  const found = new Float32Array(PIXELS);
  for (let y = 0; y < SIZE; y++)
    for (let x = 0; x < SIZE; x++) {
      const [sx, sy] = [Math.floor(x0 + ((x + 0.5) * side) / SIZE), Math.floor(y0 + ((y + 0.5) * side) / SIZE)];
      if (sx >= 0 && sy >= 0 && sx < drawing.width && sy < drawing.height && isBlack(sx, sy)) found[(y >> 2) * 8 + (x >> 2)] += 1 / 16;
    }
  return found;
}

function recognise() {
  if (!hasDrawn || !model) return;
  const outputs = model.predict(image()), digit = best(outputs);
  find("answer").textContent = `This is a ${digit}, with ${(outputs[digit] * 100).toFixed(0)} %.`;
  document.querySelectorAll("#bars i").forEach((bar, i) => { bar.style.height = `${outputs[i] * 100}%`; });
}

function clear() {
  pen.clearRect(0, 0, drawing.width, drawing.height);
  hasDrawn = false;
  find("answer").textContent = "Draw a digit.";
  document.querySelectorAll("#bars i").forEach((bar) => { bar.style.height = "0"; });
}

function startAgain() {
  model.initialize();
  history.loss.length = history.accuracy.length = 0;
  find("status").textContent = `Not trained: accuracy ${(accuracy() * 100).toFixed(1)} %.`;
  chart();
  recognise();
}

for (let digit = 0; digit < 10; digit++) {
  const cell = document.createElement("div"), room = document.createElement("p");
  room.append(document.createElement("i"));
  cell.append(room, digit);
  find("bars").append(cell);
}
pen.lineWidth = 26;
pen.lineCap = pen.lineJoin = "round";
const position = (event) => {
  const { left, top, width, height } = drawing.getBoundingClientRect();
  return [((event.clientX - left) * drawing.width) / width, ((event.clientY - top) * drawing.height) / height];
};
drawing.addEventListener("pointerdown", (event) => {
  drawing.setPointerCapture(event.pointerId);
  pen.beginPath();
  pen.moveTo(...position(event));
  pen.lineTo(...position(event));
  pen.stroke();
  hasDrawn = true;
});
drawing.addEventListener("pointermove", (event) => {
  if (!drawing.hasPointerCapture(event.pointerId)) return;
  pen.lineTo(...position(event));
  pen.stroke();
});
drawing.addEventListener("pointerup", recognise);
find("clear").addEventListener("click", clear);
find("train").addEventListener("click", () => trainEpochs(5));
find("reset").addEventListener("click", startAgain);

try {
  const [loaded, response] = await Promise.all([Model.load(), fetch(new URL("digits.bin", import.meta.url))]);
  if (!response.ok) throw new Error(`digits.bin: ${response.status}`);
  [train, test] = parts(new Uint8Array(await response.arrayBuffer()), Number(document.documentElement.dataset.training));
  order = Array.from(train.labels, (_, i) => i);
  model = loaded;
  startAgain();
  find("train").disabled = find("reset").disabled = false;
  if (location.search === "?train") await trainEpochs(5);
} catch (error) {
  find("status").textContent = `The network could not be loaded. It needs WebAssembly with SIMD: Chrome 91, Firefox 89, Safari 16.4 or newer. ${error.message}`;
}
