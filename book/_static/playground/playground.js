// The controls and drawings of the page "Playground". Nothing is loaded before Start is pressed.
"use strict";

(() => {
  const folder = document.currentScript.src.replace(/[^/]*$/, "");
  const FILES = ["vendor/tf-core.min.js", "vendor/tf-backend-cpu.min.js", "data.js", "model.js"];
  const SIDE = 8;
  const FULL = 16; // the pixels of the digits are whole numbers from 0 to 16
  const $ = (name) => document.getElementById(`playground-${name}`);
  const TITLES = {
    channel: "Channel gate, one bar a channel",
    spatial: "Spatial gate, one cell a place",
    joint: "Joint gate, one small picture a channel",
    height: "Gate of the rows, one strip a channel",
    width: "Gate of the columns, one strip a channel",
  };

  let pixels = new Array(SIDE * SIDE).fill(0);
  let cursor = { row: 3, column: 3 };
  let latest = null;
  let waiting = null;

  function load(file) {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = folder + file;
      script.onload = resolve;
      script.onerror = () => reject(new Error(file));
      document.head.append(script);
    });
  }

  const colour = (name) =>
    getComputedStyle(document.documentElement).getPropertyValue(name).trim() || "gray";

  // A canvas for `width` x `height` units that is sharp on every screen, and its context.
  function fresh(canvas, width, height) {
    const scale = Math.ceil(window.devicePixelRatio || 1);
    canvas.width = width * scale;
    canvas.height = height * scale;
    const context = canvas.getContext("2d");
    context.scale(scale, scale);
    context.fillStyle = colour("--pst-color-surface");
    context.fillRect(0, 0, width, height);
    return context;
  }

  // Cells between `low` (the background) and `high` (the accent), `rows` of them of `columns`.
  function cells(canvas, values, rows, columns, low, high, width, height) {
    const context = fresh(canvas, width, height);
    context.fillStyle = colour("--course-accent");
    values.forEach((value, i) => {
      context.globalAlpha = Math.min(1, Math.max(0, (value - low) / (high - low)));
      const [w, h] = [width / columns, height / rows];
      context.fillRect((i % columns) * w, Math.floor(i / columns) * h, w - 0.5, h - 0.5);
    });
    context.globalAlpha = 1;
  }

  // BAM's gate, whose values are from 1 to 2: a small picture a channel, eight in a row.
  function mosaic(canvas, values, channels, height, width) {
    const [across, step, size] = [8, 40, 36];
    const context = fresh(canvas, across * step, Math.ceil(channels / across) * step);
    context.fillStyle = colour("--course-accent");
    values.forEach((value, i) => {
      const channel = Math.floor(i / (height * width));
      const [row, column] = [Math.floor(i / width) % height, i % width];
      const x = (channel % across) * step + (column * size) / width;
      const y = Math.floor(channel / across) * step + (row * size) / height;
      context.globalAlpha = Math.min(1, Math.max(0, value - 1));
      context.fillRect(x, y, size / width, size / height);
    });
    context.globalAlpha = 1;
  }

  // One bar a value, from 0 at the bottom to `top`; bars from `first` to `last` stand out.
  function bars(canvas, values, top, first = Infinity, last = -Infinity) {
    const [width, height] = [320, 90];
    const context = fresh(canvas, width, height);
    const w = width / values.length;
    values.forEach((value, i) => {
      const marked = i >= first && i <= last;
      context.fillStyle = colour(marked ? "--pst-color-secondary" : "--course-accent");
      const h = (height * value) / top;
      context.fillRect(i * w + 0.5, height - h, w - 1.5, h);
    });
  }

  function figure(title, label) {
    const box = document.createElement("figure");
    const canvas = document.createElement("canvas");
    const caption = document.createElement("figcaption");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", label);
    caption.textContent = `${title}. ${label}`;
    box.append(canvas, caption);
    $("gates").append(box);
    return canvas;
  }

  const fixed = (value) => value.toFixed(2);
  const range = (values) =>
    `From ${fixed(Math.min(...values))} to ${fixed(Math.max(...values))}`;

  function drawGate(name, { shape, values }) {
    const [channels, height, width] = shape;
    const canvas = figure(TITLES[name], `${range(values)}.`);
    if (name === "channel") {
      bars(canvas, values, 1);
    } else if (name === "spatial") {
      cells(canvas, values, height, width, 0, 1, 160, 160);
    } else if (name === "joint") {
      mosaic(canvas, values, channels, height, width);
    } else if (name === "height") {
      // A row of the picture is a row of the feature map, a column is a channel.
      const turned = Array.from(
        { length: channels * height },
        (_, i) => values[(i % channels) * height + Math.floor(i / channels)],
      );
      cells(canvas, turned, height, channels, 0, 1, 320, 120);
    } else {
      cells(canvas, values, channels, width, 0, 1, 120, 320);
    }
  }

  // ECA's kernel over the channel that the reader has chosen.
  function drawKernel({ means, kernel }) {
    const at = Number($("channel").value);
    const reach = (kernel.length - 1) / 2;
    const parts = kernel.map((weight, i) => [weight, means[at + i - reach] ?? 0]);
    const sum = parts.reduce((total, [weight, mean]) => total + weight * mean, 0);
    const gate = 1 / (1 + Math.exp(-sum));
    const terms = parts.map(([weight, mean]) => `${fixed(weight)} × ${fixed(mean)}`).join(" + ");
    bars($("means"), means, Math.max(...means, 0.01), at - reach, at + reach);
    $("channel-text").textContent =
      `Channel ${at + 1} of ${means.length}: ${terms} = ${fixed(sum)}, and its sigmoid is ` +
      `${fixed(gate)}.`;
  }

  function drawPixels() {
    const canvas = $("drawing");
    cells(canvas, pixels, SIDE, SIDE, 0, FULL, 240, 240);
    if (document.activeElement === canvas) {
      const context = canvas.getContext("2d");
      context.strokeStyle = colour("--pst-color-secondary");
      context.lineWidth = 3;
      context.strokeRect(cursor.column * 30 + 1.5, cursor.row * 30 + 1.5, 26.5, 26.5);
    }
  }

  function say(text) {
    clearTimeout(waiting); // a stroke changes much at once; only its end is read aloud
    waiting = setTimeout(() => ($("status").textContent = text), 300);
  }

  function draw() {
    drawPixels();
    const exps = latest.logits.map((value) => Math.exp(value - Math.max(...latest.logits)));
    const total = exps.reduce((a, b) => a + b);
    const shares = exps.map((value) => value / total);
    const order = shares.map((_, i) => i).sort((a, b) => shares[b] - shares[a]);
    const percent = (i) => `${(100 * shares[i]).toFixed(1)} %`;
    say(
      `The network says ${order[0]} (${percent(order[0])}). ` +
        `Second is ${order[1]} (${percent(order[1])}).`,
    );
    bars($("shares"), shares, 1, order[0], order[0]);
    $("gates").replaceChildren();
    Object.entries(latest.gates).forEach(([name, gate]) => drawGate(name, gate));
    const kernel = Boolean(latest.kernel);
    $("kernel").hidden = !kernel;
    if (kernel) drawKernel(latest);
  }

  function update() {
    latest = playgroundModel.run(
      $("network").value,
      pixels,
      $("image").value,
      $("gate").value,
    );
    draw();
  }

  function paint(row, column) {
    for (const [r, c, ink] of [
      [row, column, FULL],
      [row - 1, column, 4],
      [row + 1, column, 4],
      [row, column - 1, 4],
      [row, column + 1, 4],
    ]) {
      if (r < 0 || r >= SIDE || c < 0 || c >= SIDE) continue;
      pixels[r * SIDE + c] = Math.min(FULL, Math.max(pixels[r * SIDE + c], ink));
    }
    update();
  }

  function place(event) {
    const box = $("drawing").getBoundingClientRect();
    return [
      Math.floor((SIDE * (event.clientY - box.top)) / box.height),
      Math.floor((SIDE * (event.clientX - box.left)) / box.width),
    ];
  }

  function clear() {
    pixels = pixels.map(() => 0);
    $("sample").value = "";
    update();
  }

  function key(event) {
    const moves = {
      ArrowUp: [-1, 0],
      ArrowDown: [1, 0],
      ArrowLeft: [0, -1],
      ArrowRight: [0, 1],
    };
    if (event.key in moves) {
      const limit = (value) => Math.min(SIDE - 1, Math.max(0, value));
      cursor.row = limit(cursor.row + moves[event.key][0]);
      cursor.column = limit(cursor.column + moves[event.key][1]);
      drawPixels();
      const value = pixels[cursor.row * SIDE + cursor.column];
      say(`Row ${cursor.row + 1}, column ${cursor.column + 1}: ${value} of ${FULL}.`);
    } else if (event.key === " ") {
      paint(cursor.row, cursor.column);
    } else if (event.key === "Backspace") {
      pixels[cursor.row * SIDE + cursor.column] = 0;
      update();
    } else if (event.key === "Delete") {
      clear();
    } else {
      return;
    }
    event.preventDefault();
  }

  function cost() {
    const value = (name) => Number($(name).value);
    const [C, r, k, s] = ["C", "r", "k", "s"].map(value);
    $("r-value").textContent = r;
    $("k-value").textContent = k;
    $("s-value").textContent = s;
    const body = $("costs");
    body.replaceChildren();
    for (const [name, count] of Object.entries(playgroundCost({ C, r, k, s }))) {
      const row = body.insertRow();
      const head = document.createElement("th");
      head.scope = "row";
      head.textContent = name;
      row.append(head);
      for (const number of [count, 4 * count]) {
        row.insertCell().textContent = number.toLocaleString("en");
      }
    }
    $("field").textContent =
      `A gate of ECA sees ${Math.min(k, C)} of ${C} channels. A gate of CBAM's spatial half ` +
      `sees ${s} × ${s} places of the feature map. Behind two 3 × 3 convolutions these are ` +
      `${s + 4} × ${s + 4} pixels of the image.`;
  }

  function connect() {
    playgroundData.samples.forEach(({ label, name }, i) => {
      const second = playgroundData.samples.findIndex((s) => s.label === label) < i;
      const text = name ? `photograph of ${name}` : `${label}, ${second ? "second" : "first"}`;
      $("sample").add(new Option(text, String(i)));
    });
    $("sample").addEventListener("change", ({ target }) => {
      if (target.value === "") return clear();
      pixels = [...playgroundData.samples[target.value].pixels];
      update();
    });
    for (const name of ["network", "image", "gate"]) $(name).addEventListener("change", update);
    $("channel").addEventListener("input", () => drawKernel(latest));
    $("clear").addEventListener("click", clear);
    const canvas = $("drawing");
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      paint(...place(event));
    });
    canvas.addEventListener("pointermove", (event) => {
      if (event.buttons) paint(...place(event));
    });
    canvas.addEventListener("keydown", key);
    canvas.addEventListener("focus", drawPixels);
    canvas.addEventListener("blur", drawPixels);
    for (const name of ["C", "r", "k", "s"]) $(name).addEventListener("input", cost);
    // Light and dark: the canvases take their colours from the page.
    new MutationObserver(draw).observe(document.documentElement, {
      attributeFilter: ["data-theme"],
    });
    $("sample").value = "6";
    pixels = [...playgroundData.samples[6].pixels];
  }

  async function start() {
    $("start").disabled = true;
    $("status").textContent = "Loading.";
    try {
      for (const file of [...FILES, "cost.js"]) await load(file);
      await tf.setBackend("cpu");
      await tf.ready();
    } catch (error) {
      $("status").textContent = `The playground could not be loaded (${error.message}).`;
      $("start").disabled = false;
      return;
    }
    $("body").hidden = false;
    connect();
    cost();
    update();
    $("start").hidden = true;
    $("sample").focus();
  }

  $("start").hidden = false;
  $("start").addEventListener("click", start);
})();
