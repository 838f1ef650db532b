// The first study: four panels and the numbers of each step.
class StepsView {
  constructor(xray) {
    const make = easel.make;
    this.xray = xray;
    this.images = new Map(); // step -> promise of its strip
    this.at = 0; // index into the steps
    this.charts = new XrayCharts((index) => this.seek(index));
    this.heat = new HeatMaps(this);
    this.compare = new XrayCompare(this);
    this.empty = make("div", { class: "xray-empty" }, make("p", {}, "See how a picture comes about: make one, then press X-ray under it, or drop one of Easel's pictures here."),
      make("p", { class: "small" }, "The run is made once more and looked at from outside; the picture stays the same, bit for bit."));
    this.slider = make("input", { type: "range", id: "xray_step", min: 1, max: 1, value: 1, step: 1, "aria-label": "Step" });
    this.slider.addEventListener("input", () => { this.pause(); this.seek(Number(this.slider.value) - 1); });
    this.count = make("output", { class: "count", for: "xray_step" });
    this.playButton = make("button", { type: "button", class: "press", id: "xray_play", "aria-pressed": "false", onclick: () => this.play() }, "Play");
    this.ticks = make("div", { class: "ticks", role: "group", "aria-label": "Go to step" });
    this.numbers = make("p", { class: "numbers", id: "xray_numbers" });
    const titles = { noisy: "Noisy latents", noise: "Predicted noise", denoised: "Predicted clean picture", guidance: "Guidance difference" };
    const hints = { noisy: "what the network sees, at unit variance", noise: "what it takes for noise, guidance included", denoised: "what would be left without that noise",
      guidance: "what the prompt adds: noise with it minus noise without it" };
    this.canvases = {};
    const panels = make("div", { class: "panels" }, ...Object.entries(titles).map(([name, title]) => {
      this.canvases[name] = make("canvas", { id: `xray_${name}`, role: "img", "aria-label": title });
      const frame = make("div", { class: "frame" }, this.canvases[name]);
      if (name === "denoised") frame.append(this.heat.overlay);
      return make("figure", {}, frame, make("figcaption", {}, make("strong", {}, title), make("span", {}, hints[name])));
    }));
    this.channels = make("img", { class: "channels", id: "xray_channels", alt: "Latent channels in grey: those of the noisy latents above, those of the clean picture below" });
    this.channelTable = make("table", { class: "fields" });
    this.tokens = make("table", { class: "fields", id: "xray_tokens" });
    this.final = make("img", { class: "final", alt: "The finished picture" });
    this.cost = make("p", { class: "small", id: "xray_cost" });
    this.exports = make("div", { class: "tools" });
    this.body = make("div", { class: "xray-body", hidden: true },
      make("div", { class: "scrub" }, easel.iconButton("send back", "One step back (key ,)", () => this.step(-1)), this.slider, easel.iconButton("send", "One step on (key .)", () => this.step(1)), this.count, this.playButton),
      this.ticks, this.numbers, panels, this.compare.root, this.heat.root, this.charts.root,
      make("div", { class: "xray-pair" },
        make("figure", {}, make("figcaption", {}, make("strong", {}, "Latent channels"), make("span", {}, "noisy above, clean below; mean and spread beside them")), this.channels, this.channelTable),
        make("figure", {}, make("figcaption", {}, make("strong", {}, "Finished picture")), this.final, this.cost, this.exports)),
      make("details", { class: "xray-tokens", open: true }, make("summary", {}, "Tokens"), this.tokens));
    this.root = make("div", {}, this.empty, this.body);
    this.body.addEventListener("keydown", (event) => {
      if (event.target.matches("input, select, textarea")) return;
      const by = { ",": -1, ".": 1 }[event.key];
      if (by) this.step(by);
    });
  }

  get steps() { return this.told?.steps ?? []; }
  get now() { return this.steps[this.at]; }

  show(told, fresh) {
    const before = fresh ? 0 : this.shownSteps; // the list grows in place
    const atEnd = this.at >= before - 1;
    this.told = told;
    this.shownSteps = told.steps.length;
    this.empty.hidden = told.steps.length > 0;
    this.body.hidden = !told.steps.length;
    if (fresh) { this.images.clear(); this.heat.clear(); this.at = Math.max(0, told.steps.length - 1); this.pause(); }
    if (!told.steps.length) return;
    if (fresh || !before) this.compare.list();
    if (!fresh && atEnd && !this.timer) this.at = told.steps.length - 1; // live: stay with the newest
    if (told.steps.length !== before) {
      this.slider.max = told.steps.length;
      this.showTicks();
      this.charts.draw(told, this.compare.told);
    }
    this.showExports();
    this.showTokens();
    this.seek(this.at);
  }

  showTicks() {
    const last = this.steps.length;
    const wanted = [1, 2, 4, 5, 10, 20, 30, 50, 75, 100, 150].filter((step) => step < last).concat(last);
    this.ticks.replaceChildren(...wanted.map((step) => easel.make("button", { type: "button", "data-step": step, "aria-label": `Step ${step}`,
      onclick: () => { this.pause(); this.seek(step - 1); } }, String(step))));
  }

  step(by) { this.pause(); this.seek(this.at + by); }

  seek(index) {
    this.at = Math.min(Math.max(index, 0), this.steps.length - 1);
    const now = this.now;
    this.slider.value = this.at + 1;
    this.slider.setAttribute("aria-valuetext", `Step ${now.step} of ${this.steps.length}`);
    this.count.textContent = `${now.step}/${this.steps.length}`;
    for (const button of this.ticks.children) button.setAttribute("aria-current", String(Number(button.dataset.step) === this.at + 1));
    const shown = (value, digits = 3) => (value === null || value === undefined ? "none" : Number(value).toPrecision(digits));
    this.numbers.textContent = [`sigma ${shown(now.sigma)}`, `t ${now.t.toFixed(0)}`, `cosine ${shown(now.cosine, 4)}`, `${now.calls} network call${now.calls > 1 ? "s" : ""}`,
      `${shown(now.seconds)} s`].join(" · ");
    this.charts.mark(this.at);
    this.showChannels();
    this.heat.showWords();
    this.draw();
  }

  play() {
    if (this.timer) { this.pause(); return; }
    if (this.at >= this.steps.length - 1) this.seek(0);
    this.playButton.textContent = "Pause";
    this.playButton.setAttribute("aria-pressed", "true");
    this.timer = setInterval(() => { if (this.at < this.steps.length - 1) this.seek(this.at + 1); else this.pause(); }, 220);
  }

  pause() {
    clearInterval(this.timer);
    this.timer = null;
    this.playButton.textContent = "Play";
    this.playButton.setAttribute("aria-pressed", "false");
  }

  strip(step) {
    if (!this.images.has(step)) {
      this.images.set(step, new Promise((resolve, reject) => {
        const image = new Image();
        image.onload = () => resolve(image);
        image.onerror = () => { this.images.delete(step); reject(new Error("The panels of this step could not be read.")); }; // the next look tries again
        image.src = this.xray.fileAddress(`panels-${String(step).padStart(3, "0")}.webp`);
      }));
    }
    return this.images.get(step);
  }

  // The panels of a step that keeps none (only some were asked for) are those of the last one before it that does.
  keptStep() { return this.steps.slice(0, this.at + 1).reverse().find((each) => each.kept) ?? this.steps.find((each) => each.kept); }

  async draw() {
    const kept = this.keptStep();
    if (!kept) return;
    const wanted = [this.told, this.at];
    const image = await this.strip(kept.step).catch((error) => { easel.toast(error.message); return null; });
    if (!image || this.told !== wanted[0] || this.at !== wanted[1]) return;
    const width = image.width / 4;
    Object.values(this.canvases).forEach((canvas, place) => {
      canvas.width = width;
      canvas.height = image.height;
      canvas.getContext("2d").drawImage(image, place * width, 0, width, image.height, 0, 0, width, image.height);
    });
    this.body.dataset.drawn = this.now.step;
    this.heat.draw();
    this.compare.draw();
    const next = this.steps[this.at + 1];
    if (next?.kept) this.strip(next.step).catch(() => {});
  }

  showChannels() {
    const kept = this.keptStep();
    this.channels.hidden = !kept;
    if (kept) this.channels.src = this.xray.fileAddress(`channels-${String(kept.step).padStart(3, "0")}.webp`);
    const names = { noisy: "noisy", denoised: "clean" };
    const cell = (tag, value) => easel.make(tag, {}, value);
    const rows = Object.entries(this.now.channels).flatMap(([which, each]) => each.map((numbers, channel) =>
      easel.make("tr", {}, cell("th", `${names[which] ?? which} ${channel + 1}`), ...numbers.slice(0, 2).map((value) => cell("td", value === null ? "" : value.toFixed(2))))));
    this.channelTable.replaceChildren(easel.make("tr", {}, ...["channel", "mean", "spread"].map((name) => cell("th", name))), ...rows);
  }

  showTokens() {
    const texts = this.told.whole?.texts ?? [];
    const heads = ["word", "id", "chunk", "place", "weight", "vector length"];
    const rows = texts.flatMap((text) => {
      const label = texts.length > 1 ? [easel.make("tr", { class: "part" }, easel.make("th", { colspan: heads.length }, `Part ${text.part + 1}, weight ${text.weight}: ${text.text.trim()}`))] : [];
      return [...label, ...text.tokens.map((token, i) => easel.make("tr", { class: i && token.chunk !== text.tokens[i - 1].chunk ? "border" : "" },
        ...[token.text.replace("</w>", ""), token.id, token.chunk + 1, token.place, token.weight.toFixed(2), token.norm.toFixed(2)].map((value) => easel.make("td", {}, String(value)))))];
    });
    this.tokens.replaceChildren(easel.make("tr", {}, ...heads.map((name) => easel.make("th", { scope: "col" }, name))), ...rows);
  }

  showExports() {
    const done = !this.told.live;
    const finished = this.told.files.includes("picture.png");
    this.final.hidden = !finished;
    if (finished && this.final.dataset.id !== this.told.id) { this.final.src = this.xray.fileAddress("picture.png"); this.final.dataset.id = this.told.id; }
    const cost = this.told.whole?.recording;
    this.cost.textContent = done && cost ? `Recording took ${cost.seconds.toFixed(1)} s and ${(cost.bytes / 1e6).toFixed(1)} MB.` : "";
    if (this.exports.dataset.id === this.told.id) return;
    this.exports.dataset.id = this.told.id;
    const panels = { noisy: "noisy latents", noise: "noise", denoised: "clean picture", guidance: "guidance" };
    const panel = easel.make("select", { id: "xray_export_panel", "aria-label": "Which panel to save" }, ...Object.entries(panels).map(([value, name]) => easel.make("option", { value, selected: value === "denoised" }, name)));
    const links = [["strip.png", "Strip"], ["steps.gif", "GIF"], ["numbers.csv", "Numbers"], ["tokens.csv", "Tokens"], ["channels.csv", "Channels"]].map(([kind, name]) => saveLink(this.xray, kind, name, () => panel.value));
    this.exports.replaceChildren(panel, ...links);
  }
}

// A link that saves an export of the study shown.
function saveLink(xray, kind, name, panel = () => "") {
  const title = `Save as ${kind.split(".")[1].toUpperCase()}: ${name}`;
  const link = easel.make("a", { class: "tool download", href: "#", download: `xray-${kind}`, title, "aria-label": title, "data-kind": kind }, easel.make("i", { "aria-hidden": "true" }), name);
  link.addEventListener("click", () => { link.href = xray.exportAddress(kind, panel()); });
  return link;
}
