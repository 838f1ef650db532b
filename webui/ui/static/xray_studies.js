// The X-ray's other studies: which words matter, the way between two prompts or seeds, noise on a picture.
const named = (label, field) => easel.make("label", { class: "named" }, easel.make("span", {}, label), field);
const numberField = (id, value, min, max) => easel.keptField(easel.make("input", { type: "number", id, value, min, max, step: 1, inputmode: "numeric" }));

class WordsView {
  constructor(xray) {
    const make = easel.make;
    this.xray = xray;
    this.by = easel.keptField(make("select", { id: "xray_words_by", onchange: () => this.cost() }, make("option", { value: "words" }, "words"), make("option", { value: "parts" }, "parts between commas and AND")));
    this.count = numberField("xray_words_steps", 8, 1, 150);
    this.count.addEventListener("input", () => this.cost());
    this.costLine = make("p", { class: "cost", id: "xray_words_cost", role: "status" });
    this.button = make("button", { type: "button", class: "press primary", id: "xray_words_rank", onclick: () => xray.try(this.rank()) }, "Rank them");
    this.table = make("table", { class: "fields ranking", id: "xray_words_table" });
    this.tools = make("div", { class: "tools", hidden: true }, ...[["numbers.csv", "Numbers"], ["strip.png", "Strip"]].map(([kind, name]) => saveLink(xray, kind, name)));
    this.root = make("div", { class: "study" },
      make("p", {}, "The picture is made in few steps, all from the same noise: once with the whole prompt, and once without each piece. The more the picture changes, the more the piece matters."),
      make("div", { class: "form-row" }, named("Leave out", this.by), named("Steps", this.count), this.button), this.costLine, this.table, this.tools);
  }

  opened() { this.cost(); }
  baseChanged() { if (!this.root.hidden) this.cost(); }

  async cost() {
    const told = this.xray.told;
    this.button.disabled = !told || told.kind === "noising";
    if (this.button.disabled) { this.costLine.textContent = "X-ray a picture first: its prompt is what is ranked."; return; }
    const query = `/${told.id}/words?by=${this.by.value}&steps=${Math.max(1, Number(this.count.value) || 1)}`;
    try {
      const found = await (await easel.request(this.xray.address(query))).json();
      const prompt = told.prompt.trim() || "no words";
      const time = found.seconds === null ? "the time is not known yet" : `about ${easel.duration(found.seconds)}`;
      this.costLine.textContent = `“${prompt}”: ${found.pictures} pictures of ${found.steps} steps, ${time}.`;
      this.button.disabled = found.pieces.length === 0;
    } catch (error) { this.costLine.textContent = error.message; }
  }

  rank() { return this.xray.order(this.xray.base(), "words", { by: this.by.value, steps: Number(this.count.value) }); }

  show(told, fresh) {
    if (fresh) { this.by.value = told.request.study.by; this.count.value = told.request.study.steps; }
    if (fresh || !told.live) this.cost(); // what the steps took is known when they are done
    const make = easel.make;
    const rows = told.words?.rows ?? [];
    this.tools.hidden = !rows.length;
    if (!rows.length) { this.table.replaceChildren(); return; }
    const most = Math.max(...rows.map((row) => row.pixels)) || 1;
    const picture = (name, label) => make("img", { src: this.xray.fileAddress(name), alt: label, loading: "lazy" });
    const percent = (value) => `${(value * 100).toFixed(1)} %`;
    const heads = ["piece", "how much the picture changes", "pixels", "latents", "without it"];
    const whole = make("tr", {}, make("th", { scope: "row" }, "(whole prompt)"), make("td"), make("td"), make("td"), make("td", {}, picture(told.words.base, "The picture with the whole prompt")));
    this.table.replaceChildren(make("tr", {}, ...heads.map((name) => make("th", { scope: "col" }, name))), whole, ...rows.map((row) => make("tr", {},
      make("th", { scope: "row" }, row.piece), make("td", { class: "measure" }, make("div", { class: "bar-line", style: `width: ${Math.max(1, (100 * row.pixels) / most)}%` })),
      make("td", {}, percent(row.pixels)), make("td", {}, percent(row.latents)), make("td", {}, picture(row.picture, `The picture without “${row.piece}”`)))));
  }
}

// A row of pictures and a large one, with a slider.
class Frames {
  constructor(id, label) {
    const make = easel.make;
    this.image = make("img", { class: "large-frame", alt: label, hidden: true });
    this.slider = make("input", { type: "range", id, min: 1, max: 1, value: 1, step: 1, "aria-label": label });
    this.slider.addEventListener("input", () => this.select(Number(this.slider.value) - 1));
    this.caption = make("p", { class: "numbers", role: "status" });
    this.strip = make("div", { class: "frames" });
    this.root = make("div", { class: "frames-view", hidden: true }, this.slider, this.caption, this.image, this.strip);
  }

  show(frames) { // [{address, title}]
    this.frames = frames;
    this.root.hidden = !frames.length;
    if (!frames.length) return;
    this.slider.max = frames.length;
    const known = this.strip.children.length <= frames.length && this.strip.firstChild?.dataset.address === frames[0].address ? this.strip.children.length : 0;
    if (!known) this.strip.replaceChildren();
    this.strip.append(...frames.slice(known).map(({ address, title }, i) => easel.make("button", { type: "button", class: "thumb", title, "aria-label": title, "data-address": address,
      onclick: () => this.select(known + i) }, easel.make("img", { src: address, alt: "" }))));
    this.select(frames.length > known && known === this.at + 1 ? frames.length - 1 : known ? this.at : 0);
  }

  select(index) {
    this.at = Math.min(index, this.frames.length - 1);
    this.slider.value = this.at + 1;
    this.image.src = this.frames[this.at].address;
    this.image.hidden = false;
    this.caption.textContent = this.frames[this.at].title;
    this.slider.setAttribute("aria-valuetext", this.caption.textContent);
    Array.from(this.strip.children).forEach((thumb, i) => { if (i === this.at) thumb.setAttribute("aria-current", "true"); else thumb.removeAttribute("aria-current"); });
  }
}

class BetweenView {
  constructor(xray) {
    const make = easel.make;
    this.xray = xray;
    this.from = make("p", { class: "cost", role: "status" });
    this.prompt = easel.keptField(make("textarea", { id: "xray_between_prompt", rows: 2, placeholder: "Empty: the same prompt" }));
    this.seed = easel.keptField(make("input", { type: "text", id: "xray_between_seed", inputmode: "numeric", placeholder: "Empty: the same seed", pattern: "[0-9]*" }));
    this.way = easel.keptField(make("select", { id: "xray_between_way" }, make("option", { value: "slerp" }, "along the arc (slerp)"), make("option", { value: "lerp" }, "straight (lerp)")));
    this.count = numberField("xray_between_count", 6, 2, 24);
    this.button = make("button", { type: "button", class: "press primary", id: "xray_between_go", onclick: () => xray.try(this.go()) }, "Make the pictures between");
    this.frames = new Frames("xray_between_frame", "Picture on the way");
    this.tools = make("div", { class: "tools", hidden: true }, ...[["strip.png", "Strip"], ["steps.gif", "GIF"], ["numbers.csv", "Numbers"]].map(([kind, name]) => saveLink(xray, kind, name)));
    this.root = make("div", { class: "study" },
      make("p", {}, "Pictures on the way from the X-rayed picture to one with another prompt, another seed, or both: what the network is told, and the noise that it starts from, change little by little."),
      this.from, named("Other prompt", this.prompt),
      make("div", { class: "form-row" }, named("Other seed", this.seed), named("Way between the prompts", this.way), named("Pictures", this.count), this.button), this.frames.root, this.tools);
  }

  opened() { this.baseChanged(); }

  baseChanged() {
    const told = this.xray.told;
    this.button.disabled = !told || told.kind === "noising";
    this.from.textContent = this.button.disabled ? "X-ray a picture first: the way starts there." : `From “${told.prompt.trim()}”, seed ${told.request.base.seed}.`;
  }

  go() {
    const seed = this.seed.value.trim();
    if (seed && !/^\d{1,15}$/.test(seed)) return Promise.reject(new Error("The other seed must be a whole number, or empty for the same seed."));
    return this.xray.order(this.xray.base(), "interpolation", { prompt: this.prompt.value, seed: seed ? Number(seed) : -1, way: this.way.value, pictures: Number(this.count.value) });
  }

  show(told, fresh) {
    this.baseChanged();
    const study = told.request.study;
    if (fresh) { this.prompt.value = study.prompt; this.seed.value = study.seed < 0 ? "" : study.seed; this.way.value = study.way; this.count.value = study.pictures; }
    const frames = told.frames?.frames ?? [];
    this.tools.hidden = !frames.length;
    const title = (frame) => `${Math.round(frame.fraction * 100)} % of the way${frame.change === null ? "" : ` · ${(frame.change * 100).toFixed(0)} % changed since the one before`}`;
    this.frames.show(frames.map((frame) => ({ address: this.xray.fileAddress(frame.picture), title: title(frame) })));
  }
}

class NoiseView {
  constructor(xray) {
    const make = easel.make;
    this.xray = xray;
    this.file = make("input", { type: "file", id: "xray_noise_file", class: "file", accept: "image/png,image/jpeg,image/webp", "aria-label": "Open the picture to lay noise on" });
    this.file.addEventListener("change", () => { if (this.file.files[0]) xray.try(this.take(this.file.files[0])); this.file.value = ""; });
    this.levels = easel.keptField(make("input", { type: "text", id: "xray_noise_levels", value: "0 50 100 200 400 600 800 999" }));
    this.frames = new Frames("xray_noise_frame", "Noise level");
    this.pair = make("div", { class: "kept", hidden: true });
    this.table = make("table", { class: "fields", id: "xray_noise_table" });
    this.tools = make("div", { class: "tools", hidden: true }, ...[["strip.png", "Strip"], ["steps.gif", "GIF"], ["numbers.csv", "Numbers"]].map(([kind, name]) => saveLink(xray, kind, name)));
    this.root = make("div", { class: "study" },
      make("p", {}, "The way that training goes: a picture becomes latents, and noise of timestep t is laid on them. Drop any picture here."),
      make("div", { class: "form-row" }, named("Timesteps, 0 to 999", this.levels), make("label", { class: "press primary" }, this.file, "Open a picture")),
      this.pair, this.frames.root, this.table, this.tools);
  }

  async take(file) {
    const timesteps = this.levels.value.split(/[\s,;]+/).filter(Boolean).map(Number);
    if (!timesteps.every(Number.isInteger)) throw new Error("The timesteps must be whole numbers with spaces between them, such as 0 100 500.");
    const kept = await easel.sendFile("internal/inputs", file);
    const checkpoint = document.querySelector("#setting_checkpoint input")?.value ?? "";
    await this.xray.order({ request: { checkpoint, seed: 0 } }, "noising", { image: kept.input, timesteps });
  }

  show(told, fresh) {
    if (fresh) this.levels.value = told.request.study.timesteps.join(" ");
    const make = easel.make;
    const rows = told.noising?.rows ?? [];
    this.tools.hidden = this.pair.hidden = !rows.length;
    const decibels = (value) => (value === null ? "no difference" : `${value.toFixed(1)} dB`);
    if (rows.length && this.pair.dataset.id !== told.id) {
      this.pair.dataset.id = told.id;
      const figure = (name, title, hint) => make("figure", {}, make("img", { src: this.xray.fileAddress(name), alt: title }), make("figcaption", {}, make("strong", {}, title), make("span", {}, hint)));
      this.pair.replaceChildren(figure("picture.png", "The picture", `${told.noising.numbers} numbers`), figure("latents.webp", "Its latents", `${told.noising.kept} numbers`),
        figure("kept.png", "What the VAE keeps", `PSNR ${decibels(told.noising.psnr)}`));
    }
    this.frames.show(rows.map((row) => ({ address: this.xray.fileAddress(row.picture), title: `t ${row.t}: ${(row.signal * 100).toFixed(0)} % picture, ${(row.noise * 100).toFixed(0)} % noise` })));
    const heads = ["t", "picture ×", "noise ×", "sigma", "signal to noise", "PSNR, decoded", "latents"];
    this.table.replaceChildren(...(rows.length ? [make("tr", {}, ...heads.map((name) => make("th", { scope: "col" }, name)))] : []), ...rows.map((row) => make("tr", {},
      ...[row.t, row.signal.toFixed(3), row.noise.toFixed(3), row.sigma === null ? "infinite" : row.sigma.toPrecision(3), row.snr === null ? "none" : `${row.snr.toFixed(1)} dB`, decibels(row.psnr)].map((value) => make("td", {}, String(value))),
      make("td", {}, make("img", { src: this.xray.fileAddress(row.latents), alt: `Latents at t ${row.t}`, loading: "lazy" })))));
  }
}
