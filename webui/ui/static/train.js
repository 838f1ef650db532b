// The Train tab: a set of pictures with captions, what to make of it, and how the training goes. The form is remembered by the browser.
class TrainView {
  static KINDS = { lora: "LoRA", embedding: "Embedding", hypernetwork: "Hypernetwork", aesthetic: "Aesthetic embedding" };
  static AESTHETIC = ["kind", "name", "overwrite"]; // all that an aesthetic embedding wants: it is the mean of its pictures
  static RATES = { lora: 0.0005, embedding: 0.005, hypernetwork: 0.0001 };
  static TEMPLATES = { "": "The captions alone", subject_filewords: "A thing: name and caption", style_filewords: "A style: name and caption", subject: "A thing: the name alone", style: "A style: the name alone" };

  constructor(root) {
    const make = easel.make;
    this.jobs = new Map(); // id -> latest snapshot
    this.pictures = [];
    this.shown = null; // no picture, whoever asks
    this.inputs = {};
    this.file = make("input", { type: "file", id: "train_file", class: "file", multiple: true, accept: "image/png,image/jpeg,image/webp,image/bmp", "aria-label": "Add pictures to train on",
      onchange: () => { this.try(this.add(Array.from(this.file.files))); } });
    this.drop = make("label", { class: "train-drop", id: "train_drop" }, this.file, make("span", {}, "Drop pictures here, or click to add some."));
    this.grid = make("div", { class: "train-grid" });
    this.start = easel.iconButton("play", "Start the training", () => this.try(this.order()), "Start");
    this.start.id = "train_start";
    this.estimate = make("p", { class: "words", id: "train_estimate", role: "status" });
    this.form = make("form", { class: "train-form", oninput: () => this.changed(), onsubmit: (event) => event.preventDefault() }, ...this.rows(), this.estimate, make("div", { class: "acts" }, this.start));
    this.runs = make("div", { class: "train-runs" });
    this.rowsOf = new Map(); // job id -> its nodes
    root.append(make("div", { class: "train-half" }, this.form), make("div", { class: "train-half" },
      make("h2", {}, "Pictures and captions"), this.setRow(), this.drop, this.grid, make("h2", {}, "Trainings"), this.runs, make("p", { class: "train-none" }, "Nothing is trained yet. A training that you start is shown here with its losses and samples.")));
    this.restore();
    document.addEventListener("easel:tab", () => { if (easel.currentTab() === "train") this.try(this.load()); });
    if (easel.currentTab() === "train") this.try(this.load());
  }

  try(promise) { promise.catch((error) => easel.toast(error.message)); }

  // --- the form ---

  field(name, label, input, only = "") {
    input.id = `train_${name}`;
    this.inputs[name] = input;
    return easel.make("label", { class: "train-field", "data-only": only }, label, input);
  }

  number(name, label, value, attributes = {}, only = "") {
    return this.field(name, label, easel.make("input", { type: "number", value, step: "any", ...attributes }), only);
  }

  text(name, label, value = "", only = "") { return this.field(name, label, easel.make("input", { type: "text", value }), only); }

  choice(name, label, options, only = "") {
    return this.field(name, label, easel.make("select", {}, ...Object.entries(options).map(([value, words]) => easel.make("option", { value }, words))), only);
  }

  tick(name, label, only = "") { return this.field(name, label, easel.make("input", { type: "checkbox" }), only); }

  rows() {
    const row = (...fields) => easel.make("div", { class: "train-row" }, ...fields);
    const whole = { step: 1, min: 1 };
    const base = this.choice("checkpoint", "Base checkpoint", {});
    this.inputs.checkpoint.setAttribute("translate", "no");
    this.inputs.checkpoint.addEventListener("change", () => this.takeSide());
    return [
      row(this.choice("kind", "What to make", TrainView.KINDS), this.text("name", "Name of the new file")),
      row(base),
      row(this.number("rank", "Rank", 16, { ...whole, max: 256 }, "lora"), this.number("vectors", "Vectors", 2, { ...whole, max: 75 }, "embedding"),
        this.text("init_text", "Words to begin as", "*", "embedding"), this.number("learning_rate", "Learning rate", TrainView.RATES.lora, { min: 0 })),
      row(this.number("steps", "Steps", 300, whole), this.number("batch_size", "Batch size", 1, { ...whole, max: 64 }), this.number("side", "Pictures are cut to, pixels", 512, { step: 8, min: 64 })),
      row(this.choice("template", "What the captions are", TrainView.TEMPLATES)),
      row(this.text("sample_prompt", "Prompt of samples"), this.number("sample_every", "A sample after so many steps (0: none)", 100, { step: 1, min: 0 })),
      easel.make("details", {}, easel.make("summary", {}, "More"),
        row(this.tick("shuffle_tags", "Shuffle what stands between commas"), this.number("tag_drop_out", "Share of it that is left out", 0, { min: 0, max: 1 }), this.number("seed", "Seed", 1, { step: 1 })),
        row(this.tick("further", "Train the file of this name further", "lora embedding hypernetwork"), this.tick("overwrite", "A file of this name may be overwritten"))),
    ];
  }

  values() {
    const read = (input) => (input.type === "checkbox" ? input.checked : input.type === "number" ? Number(input.value) : input.value.trim());
    return Object.fromEntries(Object.entries(this.inputs).map(([name, input]) => [name, read(input)]));
  }

  restore() {
    const kept = easel.stored("train_1", {});
    for (const [name, input] of Object.entries(this.inputs)) {
      if (!(name in kept)) continue;
      if (input.type === "checkbox") input.checked = kept[name];
      else input.value = kept[name];
    }
    this.kind = this.inputs.kind.value;
    this.changed();
  }

  changed() {
    const { kind } = this.values();
    if (kind !== this.kind && kind in TrainView.RATES) this.inputs.learning_rate.value = TrainView.RATES[kind];
    this.kind = kind;
    for (const [name, input] of Object.entries(this.inputs)) {
      const { only } = input.parentElement.dataset;
      input.parentElement.hidden = kind === "aesthetic" ? !TrainView.AESTHETIC.includes(name) : only !== "" && !only.includes(kind);
    }
    const kept = easel.stored("train_1", {});
    const values = this.values();
    easel.store("train_1", { ...kept, ...values, checkpoint: values.checkpoint || kept.checkpoint }); // the list may not be there yet
    this.tellEstimate();
  }

  tellEstimate() {
    const { kind, steps, batch_size: batch } = this.values();
    const many = this.pictures.length;
    if (many && kind === "aesthetic") {
      this.estimate.textContent = `${many} pictures, each looked at once`;
      return;
    }
    const times = many ? (steps * batch) / many : 0;
    this.estimate.textContent = many ? `${many} pictures, each seen about ${times < 10 ? times.toFixed(1) : Math.round(times)} times` : "No pictures yet: choose a set, or add some.";
  }

  // --- the set of pictures ---

  setRow() {
    this.sets = easel.make("select", { id: "train_sets", translate: "no", "aria-label": "Set of pictures", onchange: () => { this.keepSet(this.sets.value); this.try(this.loadSet()); } });
    const fresh = easel.iconButton("picture", "A new set of pictures", () => this.try(this.newSet()), "New set");
    fresh.id = "train_new_set";
    return easel.make("div", { class: "bar-row" }, this.sets, fresh);
  }

  keepSet(name) { easel.store("train_1", { ...easel.stored("train_1", {}), set: name }); }

  async newSet() {
    const name = await easel.askText("Name of the new set of pictures", []);
    if (!name?.trim()) return;
    this.keepSet(name.trim());
    await this.loadSets();
  }

  async load() {
    const [found] = await Promise.all([this.ask("models?kind=checkpoint&count=200"), this.loadSets(), this.loadJobs()]);
    this.families = Object.fromEntries(found.models.map((model) => [model.name, model.family]));
    const kept = easel.stored("train_1", {}).checkpoint;
    const chosen = kept || easel.drafts().quick?.checkpoint; // that of the top row
    this.inputs.checkpoint.replaceChildren(...found.models.map((model) => easel.make("option", { value: model.name }, model.title || model.name)));
    if (chosen in this.families) this.inputs.checkpoint.value = chosen;
    if (chosen !== kept || !(kept in this.families)) this.takeSide();
  }

  // The size that the checkpoint is made for.
  takeSide() {
    this.inputs.side.value = this.families[this.inputs.checkpoint.value] === "miniature" ? 128 : 512;
    this.changed();
  }

  async ask(path, body) {
    const options = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
    return (await easel.request(`internal/${path}`, options)).json();
  }

  async loadSets() {
    const told = await this.ask("training/sets");
    const chosen = easel.stored("train_1", {}).set || Object.keys(told.sets)[0] || "pictures";
    const names = Array.from(new Set([...Object.keys(told.sets), chosen])).sort();
    this.sets.replaceChildren(...names.map((name) => easel.make("option", { value: name }, `${name} (${told.sets[name] ?? 0})`)));
    this.sets.value = chosen;
    await this.loadSet();
  }

  path(file = "") { return `training/sets/${encodeURIComponent(this.sets.value)}${file && `/${encodeURIComponent(file)}`}`; }

  async loadSet() {
    this.pictures = (await this.ask(this.path())).pictures;
    this.grid.replaceChildren(...this.pictures.map((picture) => this.card(picture)));
    this.tellEstimate();
  }

  card(picture) {
    const make = easel.make;
    const caption = make("textarea", { rows: 3, "aria-label": `Caption of ${picture.file}`, placeholder: "Caption" });
    const typed = easel.stored("captions_1", {})[this.path(picture.file)];
    caption.value = typed ?? picture.caption;
    if (typed !== undefined) this.try(this.saveCaption(this.path(picture.file), typed)); // the server had not heard of it
    caption.addEventListener("input", () => easel.store("captions_1", { ...easel.stored("captions_1", {}), [this.path(picture.file)]: caption.value }));
    caption.addEventListener("change", () => this.try(this.saveCaption(this.path(picture.file), caption.value)));
    const remove = easel.iconButton("bin", `Take ${picture.file} out of the set`, () => this.try(this.remove(picture)));
    return make("div", { class: "train-picture", "data-file": picture.file },
      make("img", { src: easel.url(`internal/${this.path(picture.file)}`), alt: picture.file, loading: "lazy" }), caption, remove);
  }

  // What is typed is kept in this browser until the server has it.
  async saveCaption(path, caption) {
    await this.ask(path, { caption });
    const { [path]: saved, ...others } = easel.stored("captions_1", {});
    easel.store("captions_1", saved === caption ? others : { ...others, [path]: saved });
  }

  async add(files) {
    this.file.value = "";
    for (const file of files) await easel.sendFile(`internal/${this.path()}`, file);
    this.keepSet(this.sets.value);
    await this.loadSets();
  }

  async remove(picture) {
    await this.ask(this.path(picture.file), { removed: true });
    await this.loadSets();
    easel.toast("The picture is taken out.", { label: "Undo", act: () => this.try(this.ask(this.path(picture.file), { removed: false }).then(() => this.loadSets())) });
  }

  // --- trainings ---

  async order() {
    const { checkpoint, ...values } = this.values();
    await this.ask("training", { ...values, checkpoint: checkpoint ?? "", set: this.sets.value, client: easel.client });
    await this.loadJobs();
  }

  async goOn(job) {
    await this.ask(`training/jobs/${job.id}/further?client=${easel.client}`, {});
    await this.loadJobs();
  }

  async loadJobs() {
    const told = await this.ask(`training/jobs?client=${easel.client}`);
    for (const job of told.jobs.reverse()) this.show(job);
    await Promise.all(told.jobs.map((job) => this.look(job.id)));
  }

  ended(job) { return ["done", "failed", "interrupted"].includes(job.status); }
  current() { return Array.from(this.jobs.values()).find((job) => !this.ended(job)) ?? null; }
  lastInfotext() { return undefined; }
  waiting() { return 0; }

  update(job, past) { // what the socket says
    const before = this.jobs.get(job.id);
    this.jobs.set(job.id, job);
    const ended = this.ended(job) && before && !this.ended(before);
    if (job.status === "failed" && ended && !past) easel.toast(job.error);
    if (ended || easel.currentTab() === "train") this.later(job.id, ended);
    if (this.rowsOf.has(job.id)) this.show(job);
  }

  forget() { if (easel.currentTab() === "train") this.try(this.loadJobs()); }

  later(id, now) { // the curve and the samples, at most once a second
    clearTimeout(this.timer);
    const wait = now ? 0 : Math.max(0, 1000 - (Date.now() - (this.looked ?? 0)));
    this.timer = setTimeout(() => { this.looked = Date.now(); this.try(this.look(id)); }, wait);
  }

  async look(id) {
    const told = await this.ask(`training/jobs/${id}?client=${easel.client}`);
    this.show(told);
    const row = this.rowsOf.get(id);
    row.curve.replaceChildren(this.curve(told.losses));
    row.curve.hidden = told.losses.length < 2;
    const address = (file) => easel.url(`internal/training/jobs/${id}/${file}?client=${easel.client}`);
    for (const file of told.samples.slice(row.samples.childElementCount)) {
      const step = /\d+/.exec(file)[0];
      row.samples.append(easel.make("figure", {}, easel.make("img", { src: address(file), alt: `Sample after ${step} steps` }), easel.make("figcaption", {}, step)));
    }
  }

  show(job) {
    const make = easel.make;
    let row = this.rowsOf.get(job.id);
    if (!row) {
      const fill = make("div", { class: "fill" });
      row = { fill, bar: make("div", { class: "bar", role: "progressbar", "aria-label": "Progress", "aria-valuemin": 0, "aria-valuemax": 100 }, fill),
        words: make("span", { class: "words", role: "status" }), curve: make("div", { class: "train-curve", hidden: true }), samples: make("div", { class: "train-samples" }),
        stop: easel.iconButton("close", "Stop and save what was learnt", () => this.try(easel.request(`internal/jobs/${job.id}/interrupt?client=${easel.client}`, { method: "POST" })), "Stop & save"),
        more: easel.iconButton("play", "Go on with the steps that are left, from what was learnt so far", () => this.try(this.goOn(job)), "Go on"),
        use: easel.iconButton("send", "Put it into the prompt of txt2img", () => this.use(job), "Try in txt2img") };
      row.node = make("article", { class: "train-run", "data-job": job.id }, make("strong", { translate: "no" }, `${TrainView.KINDS[job.kind]} ${job.name}`), row.bar, row.words, row.curve, row.samples,
        make("div", { class: "acts" }, row.stop, row.more, row.use));
      this.rowsOf.set(job.id, row);
      this.runs.prepend(row.node);
    }
    const ended = this.ended(job);
    row.node.dataset.status = job.status;
    const percent = Math.round(job.fraction * 100);
    row.fill.style.width = `${percent}%`;
    row.bar.setAttribute("aria-valuenow", percent);
    row.bar.hidden = row.stop.hidden = ended;
    row.more.hidden = job.kind === "aesthetic" || job.status !== "interrupted";
    row.use.hidden = job.kind === "aesthetic" || !["done", "interrupted"].includes(job.status);
    const eta = !ended && job.eta ? `ETA ${easel.duration(job.eta)}` : "";
    row.words.textContent = job.status === "failed" ? easel.sentence(job.error) : [easel.sentence(job.text || job.status), eta].filter(Boolean).join(" · ");
  }

  curve(points) {
    const [width, height] = [320, 90];
    const most = Math.max(...points.map(([, loss]) => loss), 1e-9);
    const last = points.at(-1)?.[0] || 1;
    const at = ([step, loss]) => `${((step / last) * width).toFixed(1)},${(height - (loss / most) * (height - 6)).toFixed(1)}`;
    const make = (tag, attributes) => {
      const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
      for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
      return node;
    };
    const drawing = make("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": "Loss over the steps" });
    drawing.append(make("polyline", { points: points.map(at).join(" "), fill: "none", stroke: "currentColor", "vector-effect": "non-scaling-stroke" }));
    drawing.addEventListener("pointermove", (event) => this.tellPoint(points, event, drawing));
    return drawing;
  }

  // Step and loss under the pointer.
  tellPoint(points, event, drawing) {
    const box = drawing.getBoundingClientRect();
    const step = ((event.clientX - box.left) / box.width) * points.at(-1)[0];
    const [at, loss] = points.reduce((best, point) => (Math.abs(point[0] - step) < Math.abs(best[0] - step) ? point : best));
    drawing.parentElement.title = `Step ${at}: loss ${loss.toFixed(4)}`;
  }

  use(job) {
    const insert = { lora: `<lora:${job.name}:1>`, embedding: job.name, hypernetwork: `<hypernet:${job.name}:1>` }[job.kind];
    easel.openTab("txt2img");
    const area = document.querySelector("#txt2img_prompt textarea");
    if (!area.value.includes(insert)) easel.togglePrompt(area, { insert });
  }
}

easel.trainView = (root) => { easel.results.train = new TrainView(root); };
