// Parts of the X-ray: curves over the steps, and heat maps of attention over the clean picture.
const SVG = "http://www.w3.org/2000/svg";
const svg = (tag, attributes = {}, ...children) => {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
};

// One chart: lines of [x, y] points, a dot and a value for the step at hand. A click goes to the nearest step.
class XrayChart {
  constructor(title, hint, seek) {
    this.seek = seek;
    this.values = easel.make("span", { class: "values" });
    this.plot = svg("svg", { viewBox: "0 0 300 120", preserveAspectRatio: "none", role: "img", "aria-label": `${title}: ${hint}` });
    this.plot.addEventListener("click", (event) => this.clicked(event));
    this.foot = easel.make("div", { class: "foot" });
    this.root = easel.make("figure", { class: "chart" }, easel.make("figcaption", {}, easel.make("strong", {}, title), easel.make("span", {}, hint), this.values), this.plot, this.foot);
  }

  // lines: [{name, points}], the first shares its x with the steps; faint: lines that have no dot. log: y by powers of ten.
  draw(lines, { log = false, faint = [], ends = null, format = (value) => value.toPrecision(3) } = {}) {
    const usable = ({ points, ...rest }) => ({ ...rest, points: points.map(([x, y]) => [x, y === null || (log && y <= 0) ? null : log ? Math.log10(y) : y]) });
    this.lines = lines.map(usable);
    this.format = format;
    this.log = log;
    const all = [...this.lines, ...faint.map(usable)].flatMap((line) => line.points).filter(([, y]) => y !== null);
    if (!all.length) { this.plot.replaceChildren(); this.scale = null; this.foot.textContent = "nothing to show"; return; }
    const [xs, ys] = [all.map(([x]) => x), all.map(([, y]) => y)];
    const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    this.scale = ([x, y]) => [6 + (288 * (x - left)) / (right - left || 1), high === low ? 60 : 112 - (104 * (y - low)) / (high - low)];
    const shape = (line, className) => svg("polyline", { class: className, points: line.points.filter(([, y]) => y !== null).map((point) => this.scale(point).map((value) => value.toFixed(1)).join(",")).join(" ") });
    this.cursor = svg("line", { class: "cursor", y1: 4, y2: 116 });
    this.dots = this.lines.map((line, i) => svg("circle", { class: `dot line-${i}`, r: 4 }));
    const steps = this.lines[0].dotted ? this.lines[0].points.filter(([, y]) => y !== null).map((point) => { const [x, y] = this.scale(point); return svg("circle", { class: "step", cx: x, cy: y, r: 2.5 }); }) : [];
    this.plot.replaceChildren(...faint.map((line) => shape(usable(line), "faint")), ...this.lines.map((line, i) => shape(line, `line line-${i}`)), ...steps, this.cursor, ...this.dots);
    const shown = (y) => format(log ? 10 ** y : y);
    this.foot.replaceChildren(...(ends ?? [`least ${shown(low)}`, `most ${shown(high)}`]).map((text) => easel.make("span", {}, text)));
  }

  mark(index) {
    if (!this.scale) { this.values.replaceChildren(); return; }
    const found = this.lines.map((line) => line.points[index] ?? [0, null]);
    const [x] = this.scale([found[0][0], 0]);
    this.cursor.setAttribute("x1", x);
    this.cursor.setAttribute("x2", x);
    found.forEach(([px, y], i) => {
      this.dots[i].style.display = y === null ? "none" : "";
      if (y === null) return;
      const [cx, cy] = this.scale([px, y]);
      this.dots[i].setAttribute("cx", cx);
      this.dots[i].setAttribute("cy", cy);
    });
    this.values.replaceChildren(...found.map(([, y], i) => easel.make("span", { class: `line-${i}` },
      `${this.lines[i].name ? `${this.lines[i].name} ` : ""}${y === null ? "none" : this.format(this.log ? 10 ** y : y)}`)));
  }

  clicked(event) {
    if (!this.scale) return;
    const box = this.plot.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * 300;
    const distances = this.lines[0].points.map(([px]) => Math.abs(this.scale([px, 0])[0] - x));
    this.seek(distances.indexOf(Math.min(...distances)));
  }
}

// The curves of a recording.
class XrayCharts {
  constructor(seek) {
    this.charts = {
      sigma: new XrayChart("Sigma", "noise level, by powers of ten", seek),
      norms: new XrayChart("Lengths", "of the latents as vectors, by powers of ten", seek),
      cosine: new XrayChart("Cosine", "of the noise with and without the prompt", seek),
      seconds: new XrayChart("Time", "seconds of the network per step", seek),
      schedule: new XrayChart("Schedule", "sigma over the training timestep; dots: the steps", seek),
    };
    for (const [name, chart] of Object.entries(this.charts)) chart.root.id = `xray_chart_${name}`;
    this.root = easel.make("div", { class: "charts" }, ...Object.values(this.charts).map((chart) => chart.root));
  }

  // other: the recording that this one is compared with, over the same width.
  draw(told, other = null) {
    const line = (read, name = "") => ({ name, points: told.steps.map((step, i) => [i, read(step)]) });
    const wide = (told.steps.length - 1) / ((other?.steps.length ?? 2) - 1 || 1);
    const faint = (...reads) => (other ? reads.map((read) => ({ points: other.steps.map((step, i) => [i * wide, read(step)]) })) : []);
    this.charts.sigma.draw([line((step) => step.sigma)], { log: true, faint: faint((step) => step.sigma) });
    this.charts.norms.draw([["noisy", "noisy"], ["noise", "noise"], ["denoised", "clean"], ["guidance", "guidance"]].map(([key, name]) => line((step) => step.norms[key], name)),
      { log: true, faint: faint(...["noisy", "noise", "denoised", "guidance"].map((key) => (step) => step.norms[key])) });
    this.charts.cosine.draw([line((step) => step.cosine)], { format: (value) => value.toFixed(4), faint: faint((step) => step.cosine) });
    this.charts.seconds.draw([line((step) => step.seconds)], { faint: faint((step) => step.seconds) });
    const schedule = told.whole?.passes[0]?.schedule ?? [];
    this.charts.schedule.draw([{ name: "", dotted: true, points: told.steps.map((step) => [step.t, step.sigma]) }], { log: true, faint: [{ points: schedule }], ends: ["t 0", "t 999"] });
  }

  mark(index) { for (const chart of Object.values(this.charts)) chart.mark(index); }
}

// Attention: the words of the prompt, and where the one that is pointed at acts.
class HeatMaps {
  constructor(steps) {
    const make = easel.make;
    this.steps = steps;
    this.maps = new Map(); // name -> promise of {told, bytes}
    this.overlay = make("canvas", { class: "heat", id: "xray_heat", "aria-hidden": "true" });
    this.chips = make("div", { class: "chips", id: "xray_chips", role: "group", "aria-label": "Words of the prompt: point at one to see where it acts, press it to keep it" });
    this.layer = make("select", { id: "xray_layer", "aria-label": "Layer", onchange: () => this.draw() });
    this.all = make("input", { type: "checkbox", id: "xray_all_steps", onchange: () => { this.layer.disabled = this.all.checked; this.draw(); } });
    this.scale = make("span", { class: "small", role: "status" });
    this.root = make("div", { class: "attention" },
      make("div", { class: "attention-head" }, make("strong", {}, "Where words act"), this.layer, make("label", { class: "check" }, this.all, "Mean of all steps"), this.scale), this.chips);
    this.pinned = this.pointed = null; // {part, tokens: numbers | "begin" | "end", key}
  }

  clear() { this.maps.clear(); this.pinned = this.pointed = null; this.key = null; }

  showWords() {
    const told = this.steps.told;
    const layers = told.whole?.layers ?? [];
    this.root.hidden = !layers.length;
    if (!layers.length) { this.hideHeat(); return; }
    if (String(Array.from(this.layer.options, (option) => option.value)) !== String(layers)) {
      this.layer.replaceChildren(...layers.map((name) => easel.make("option", { value: name }, this.layerName(name))));
    }
    const texts = this.steps.now.texts;
    if (this.key === String(texts)) return;
    this.key = String(texts); // the prompt may change on the way
    this.pinned = this.pointed = null;
    const chips = texts.flatMap((number, part) => {
      const text = told.whole.texts[number];
      if (!text) return [];
      const words = text.words.map((word, i) => this.chip(word.text || "·", { part, tokens: word.tokens, key: `${part}/${i}` }, i && text.tokens[word.tokens[0]].chunk !== text.tokens[word.tokens[0] - 1].chunk));
      const ends = [["(beginning)", text.tokens.length], ["(end and padding)", text.tokens.length + 1]].map(([name, row]) => this.chip(name, { part, tokens: [row], key: `${part}/${name}` }, false, "end"));
      return [...(texts.length > 1 ? [easel.make("span", { class: "part" }, `Part ${part + 1}`)] : []), ...words, ...ends];
    });
    this.chips.replaceChildren(...chips);
  }

  layerName(name) {
    if (name === "all layers") return "All layers (mean)";
    const [block, number] = [name.split("_")[0], name.match(/blocks\.(\d+)/)?.[1]];
    const [attention, layer] = [name.match(/attentions\.(\d+)/)?.[1], name.match(/transformer_blocks\.(\d+)/)?.[1]];
    return `${{ down: "Down", mid: "Middle", up: "Up" }[block]}${block === "mid" ? "" : ` ${Number(number) + 1}`}, attention ${Number(attention) + 1}${layer === "0" ? "" : `, layer ${Number(layer) + 1}`}`;
  }

  chip(name, word, border, kind = "") {
    const button = easel.make("button", { type: "button", class: `chip ${kind} ${border ? "border" : ""}`, "aria-pressed": "false" }, name);
    const point = (to) => () => { this.pointed = to; this.draw(); };
    button.addEventListener("pointerenter", (event) => { if (event.pointerType === "mouse") point(word)(); });
    button.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") point(null)(); });
    button.addEventListener("focus", point(word));
    button.addEventListener("blur", point(null));
    button.addEventListener("click", () => {
      this.pinned = this.pinned?.key === word.key ? null : word;
      for (const other of this.chips.querySelectorAll("button")) other.setAttribute("aria-pressed", String(other === button && Boolean(this.pinned)));
      if (!this.pinned) this.pointed = null;
      this.draw();
    });
    return button;
  }

  load(name) {
    if (!this.maps.has(name)) {
      const files = ["json", "bin"].map((ending) => easel.request(this.steps.xray.fileAddress(`maps-${name}.${ending}`)));
      const maps = Promise.all(files).then(async ([told, bytes]) => ({ told: await told.json(), bytes: new Uint8Array(await bytes.arrayBuffer()) }));
      maps.catch(() => { if (this.maps.get(name) === maps) this.maps.delete(name); }); // asked for again the next time
      this.maps.set(name, maps);
      if (this.maps.size > 60) this.maps.delete(this.maps.keys().next().value);
    }
    return this.maps.get(name);
  }

  hideHeat() { this.overlay.hidden = true; this.scale.textContent = ""; delete this.overlay.dataset.word; }

  async draw() {
    const word = this.pointed ?? this.pinned;
    const kept = this.steps.keptStep();
    if (!word || !kept || this.root.hidden) { this.hideHeat(); return; }
    const name = this.all.checked ? "all" : String(kept.step).padStart(3, "0");
    const maps = await this.load(name).catch(() => null);
    if ((this.pointed ?? this.pinned) !== word || this.steps.keptStep() !== kept) return;
    const layer = maps?.told.layers.find((each) => each.layer === (this.all.checked ? "all layers" : this.layer.value));
    if (!layer) { this.hideHeat(); this.scale.textContent = "There is no map of this step."; return; }
    this.paint(maps.bytes, layer, word, maps.told.texts.length);
  }

  // The word's tokens together, from nothing (clear) to the most (glowing).
  paint(bytes, layer, word, parts) {
    const [rows, height, width] = layer.shape;
    const heat = new Float32Array(height * width);
    for (const token of word.tokens) {
      const row = (rows / parts) * word.part + token;
      const start = layer.start + row * heat.length;
      for (let i = 0; i < heat.length; i += 1) heat[i] += (bytes[start + i] / 255) * layer.peaks[row];
    }
    const most = Math.max(...heat) || 1;
    const small = easel.make("canvas", { width, height });
    const image = new ImageData(width, height);
    heat.forEach((value, i) => image.data.set(HeatMaps.colour(value / most), i * 4));
    small.getContext("2d").putImageData(image, 0, 0);
    const under = this.steps.canvases.denoised;
    this.overlay.width = under.width;
    this.overlay.height = under.height;
    this.overlay.getContext("2d").drawImage(small, 0, 0, under.width, under.height);
    this.overlay.hidden = false;
    this.overlay.dataset.word = word.key;
    this.scale.textContent = `At the brightest place ${(most * 100).toPrecision(2)} % of the attention`;
  }

  // Dark violet, red, yellow; the little is see-through.
  static colour(part) {
    const stops = [[30, 10, 90, 0], [120, 20, 130, 80], [215, 60, 60, 140], [250, 160, 40, 185], [255, 245, 150, 215]];
    const at = Math.min(part, 0.9999) * (stops.length - 1);
    const [one, two] = [stops[Math.floor(at)], stops[Math.floor(at) + 1]];
    return one.map((value, i) => value + (two[i] - value) * (at % 1));
  }
}
