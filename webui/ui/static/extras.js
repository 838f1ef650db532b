// Extras: finished pictures made larger. What goes in stands on the left; before and after, under a slider, on the right.
class ExtrasInput {
  constructor(root) {
    const make = easel.make;
    this.pictures = []; // { hash, name, width, height, node }
    this.told = { upscaler: "Lanczos", way: "Scale by", scale: 2, crop: true }; // the settings: as built, then as last seen
    this.adding = Promise.resolve(); // ends when all pictures that were dropped have arrived
    this.modes = Object.entries({ single: "Single", batch: "Batch", folder: "From directory" }).map(([mode, name]) =>
      make("button", { type: "button", class: "tool", id: `extras_mode_${mode}`, "data-mode": mode, onclick: () => this.setMode(mode) }, name));
    this.file = make("input", { type: "file", id: "extras_file", accept: "image/*", class: "file", "aria-label": "Open a picture file" });
    this.file.addEventListener("change", () => { this.try(this.addAll(Array.from(this.file.files))); this.file.value = ""; });
    this.image = make("img", { alt: "The picture that is made larger", hidden: true });
    this.hint = make("div", { class: "hint" }, make("i", { "aria-hidden": "true" }), make("p", {}, "Drop pictures here, or click to open them."));
    this.drop = make("label", { class: "dropzone" }, this.file, this.hint, this.image);
    const whole = make("input", { type: "file", id: "extras_batch_folder", webkitdirectory: true, multiple: true, class: "file", "aria-label": "Add a folder" });
    whole.addEventListener("change", () => { this.try(this.addAll(Array.from(whole.files))); whole.value = ""; });
    this.ways = make("div", { class: "ways" }, make("label", { class: "tool" }, "Add a folder", whole),
      make("button", { type: "button", class: "tool", id: "extras_batch_empty", onclick: () => { this.pictures = []; this.show(); } }, "Take all away"));
    this.pile = make("div", { class: "pile" });
    this.folder = make("select", { id: "extras_folder", "aria-label": "Folder below outputs" });
    this.folders = make("div", { class: "folders" }, make("label", {}, "Folder below outputs", this.folder),
      easel.iconButton("refresh", "Look for folders again", () => this.try(this.readFolders())));
    this.sizes = make("p", { class: "sizes-told", id: "extras_sizes", role: "status" });
    root.append(make("div", { class: "modes", role: "group", "aria-label": "What to work on" }, ...this.modes), this.drop, this.ways, this.pile, this.folders, this.sizes);
    this.root = root;
    this.setMode(easel.stored("extras_mode", "single"));
  }

  try(promise) { promise.catch((error) => easel.toast(error.message)); }

  setMode(mode) {
    this.mode = this.modes.some((button) => button.dataset.mode === mode) ? mode : "single";
    easel.store("extras_mode", this.mode);
    this.root.dataset.mode = this.mode;
    for (const button of this.modes) button.setAttribute("aria-pressed", String(button.dataset.mode === this.mode));
    this.file.multiple = this.mode === "batch";
    if (this.mode === "folder") this.try(this.readFolders());
    this.show();
  }

  async readFolders() {
    const { folders } = await (await easel.request("internal/extras/folders")).json();
    const chosen = this.folder.value;
    this.folder.replaceChildren(...folders.map(({ name, count }) =>
      easel.make("option", { value: name }, `${name} (${count} ${count === 1 ? "picture" : "pictures"})`)));
    if (folders.some(({ name }) => name === chosen)) this.folder.value = chosen;
  }

  // One after the other, and Generate waits for them.
  inTurn(work) {
    const turn = this.adding.then(work);
    this.adding = turn.catch(() => {});
    return turn;
  }

  addAll(files) { return this.inTurn(() => this.addThem(files)); }

  async addThem(files) {
    const pictures = files.filter((file) => file.type.startsWith("image/"));
    if (!pictures.length && files.length) throw new Error("This is no picture; use PNG, JPEG or WebP.");
    if (pictures.length > 1 || this.mode === "folder") this.setMode("batch");
    const others = files.length - pictures.length;
    if (others) easel.toast(others === 1 ? "1 file is no picture and was left out." : `${others} files are no pictures and were left out.`);
    for (const file of this.mode === "single" ? pictures.slice(0, 1) : pictures) await this.add(file);
  }

  // `source`: a File, or the address of a picture of Easel's.
  load(source) {
    return this.inTurn(async () => {
      if (this.mode === "folder") this.setMode("single");
      await this.add(typeof source === "string" ? await (await easel.request(source)).blob() : source);
    });
  }

  async add(file) {
    const { input } = await easel.sendFile("internal/inputs", file);
    const image = easel.make("img", { src: easel.url(`internal/inputs/${input}`), alt: file.name ?? "picture", loading: "eager" });
    await image.decode();
    const picture = { hash: input, name: file.name ?? "picture", width: image.naturalWidth, height: image.naturalHeight };
    const label = `Take ${picture.name} away`;
    picture.node = easel.make("button", { type: "button", title: label, "aria-label": label, onclick: () => this.remove(picture) }, image);
    if (this.mode === "single") this.pictures = [];
    this.pictures.push(picture);
    this.show();
  }

  remove(picture) {
    this.pictures = this.pictures.filter((each) => each !== picture);
    this.show();
  }

  show() {
    const single = this.mode === "single" ? this.pictures.at(-1) : null;
    this.image.hidden = !single;
    if (single) this.image.src = easel.url(`internal/inputs/${single.hash}`);
    this.hint.hidden = Boolean(single);
    this.pile.replaceChildren(...(this.mode === "batch" ? this.pictures.map((picture) => picture.node) : []));
    this.tellSizes();
  }

  settings(names, values) {
    this.told = Object.fromEntries(names.map((name, i) => [name, values[i]]));
    document.documentElement.dataset.extras = this.told.way === "Scale to" ? "to" : "by";
    this.tellSizes();
  }

  // As core/extras.py works it out.
  larger({ width, height }) {
    const { upscaler, way, crop } = this.told;
    if (upscaler === "None") return [width, height];
    if (way !== "Scale to") return [width, height].map((side) => Math.max(Math.floor(Math.trunc(side * this.told.scale) / 8) * 8, 8));
    if (crop) return [this.told.width, this.told.height];
    const scale = Math.max(this.told.width / width, this.told.height / height);
    return [width, height].map((side) => Math.max(Math.ceil(side * scale - 1e-6), 1));
  }

  tellSizes() {
    const shown = this.mode === "folder" ? [] : this.mode === "single" ? this.pictures.slice(-1) : this.pictures;
    if (!shown.length) { this.sizes.textContent = ""; return; }
    const [width, height] = this.larger(shown[0]);
    const more = shown.length > 1 ? `${shown.length} pictures, the first: ` : "";
    this.sizes.textContent = `${more}${shown[0].width} × ${shown[0].height} → ${width} × ${height}`;
  }

  async send(names, values) {
    await this.adding;
    this.settings(names, values);
    const { way, width, height, ...same } = this.told;
    const to = way === "Scale to";
    const folder = this.mode === "folder" ? this.folder.value : "";
    if (this.mode === "folder" && !folder) throw new Error("There is no folder with pictures below outputs yet: make some pictures first.");
    const pictures = this.mode === "single" ? this.pictures.slice(-1) : this.pictures;
    if (!folder && !pictures.length) throw new Error("There is no picture yet: drop one on the left, or send one here from another tab.");
    const order = { ...same, images: folder ? [] : pictures.map((picture) => picture.hash), width: to ? width : 0, height: to ? height : 0 };
    const answer = await easel.request("internal/extras", { method: "POST", headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ order, folder, client: easel.client }) });
    const view = easel.results.extras;
    for (const { hash, name } of pictures) view.names.set(hash, name);
    for (const [name, hash] of (await answer.json()).inputs) view.names.set(hash, name);
    view.showFiles();
  }

  generate(names, values) { this.try(this.send(names, values)); }
}

class ExtrasView extends ResultView {
  constructor(root) {
    super(root, "extras");
    const make = easel.make;
    this.names = new Map(); // sha256 of an input -> its file's name, where this page knows it
    this.before = make("img", { class: "before", alt: "Before" });
    this.after = make("img", { class: "after", alt: "After" });
    this.divide = make("input", { type: "range", min: 0, max: 100, step: 0.5, value: 50, class: "divide", id: "extras_compare",
      "aria-label": "Compare: before on the left, after on the right" });
    this.pair = make("div", { class: "pair", hidden: true }, this.after, this.before, this.divide, make("div", { class: "divider", "aria-hidden": "true" }),
      make("span", { class: "corner left", "aria-hidden": "true" }, "Before"), make("span", { class: "corner right", "aria-hidden": "true" }, "After"));
    this.divide.addEventListener("input", () => this.pair.style.setProperty("--at", `${this.divide.value}%`));
    this.before.addEventListener("load", () => this.tell());
    this.told = make("p", { class: "told", id: "extras_told", role: "status" });
    this.list = make("ol", { class: "orders-list files", id: "extras_files", "aria-label": "Files" });
    this.image.after(this.pair);
    this.strip.after(this.told);
    root.append(this.list);
  }

  sendButtons() {
    const targets = [["img2img", "img2img"], ["inpaint", "Inpaint"], ["png_info", "PNG info"]];
    const buttons = targets.map(([target, name]) => {
      const button = easel.iconButton("send", `Send picture and parameters to ${name}`, () => this.send(target), name);
      button.id = `extras_send_to_${target}`;
      return button;
    });
    this.save = easel.make("a", { class: "tool download", title: "Save the file", "aria-label": "Save the file", download: "picture.png" },
      easel.make("i", { "aria-hidden": "true" }), "Save");
    return [...buttons, easel.iconButton("picture", "Show the picture large", () => this.openLarge(), "Large"), this.save];
  }

  input(picture) { return this.jobs.get(picture.job)?.inputs?.[picture.place]; }
  nameOf(hash, place) { return this.names.get(hash) ?? `Picture ${place + 1}`; }

  thumb(picture) {
    const button = super.thumb(picture);
    button.title = `${this.nameOf(this.input(picture), picture.place)}, ${picture.width} by ${picture.height}`;
    button.setAttribute("aria-label", button.title);
    return button;
  }

  select(picture) {
    super.select(picture);
    if (!this.pair) return; // while the stage is being made
    this.pair.hidden = !picture;
    this.told.textContent = "";
    if (!picture) return;
    this.infoBox.hidden = !picture.infotext;
    this.pair.style.setProperty("--ratio", picture.width / picture.height);
    this.after.src = this.address(picture);
    const input = this.input(picture);
    this.pair.classList.toggle("alone", !input);
    if (input) this.before.src = easel.url(`internal/inputs/${input}`);
    this.tell();
  }

  tell() {
    const picture = this.shown;
    if (!picture) return;
    const sizes = this.before.naturalWidth ? `${this.before.naturalWidth} × ${this.before.naturalHeight} → ` : "";
    const kept = picture.infotext ? "parameters kept" : "the picture carried no parameters";
    this.told.textContent = [`${sizes}${picture.width} × ${picture.height}`, kept, this.jobs.get(picture.job)?.line].filter(Boolean).join(" · ");
  }

  update(job, past) {
    super.update(job, past);
    const known = this.jobs.get(job.id);
    known.reached = Math.max(known.reached ?? 0, job.batch); // a job that has ended tells no longer which picture was the last in hand
    this.showFiles();
  }

  describe(job, percent) {
    if (job.status !== "running" || job.stopping || !job.steps) return super.describe(job, percent);
    return job.eta === null || job.eta === undefined ? job.text : `${job.text} · ETA ${easel.duration(job.eta)}`;
  }

  // Each file of the latest job that has several: how far it is, what became of it.
  showFiles() {
    const job = Array.from(this.jobs.values()).filter((each) => each.inputs?.length > 1).at(-1);
    this.list.hidden = !job;
    if (!job) return;
    if (this.listed !== job.id) {
      this.listed = job.id;
      this.rows = job.inputs.map((hash, place) => this.row(place));
      this.list.replaceChildren(...this.rows.map((row) => row.node));
    }
    job.inputs.forEach((hash, place) => this.fillRow(job, hash, place));
  }

  row(place) {
    const name = easel.make("strong");
    const fill = easel.make("div", { class: "fill" });
    const bar = easel.make("div", { class: "bar", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100 }, fill);
    const words = easel.make("span", { class: "words" });
    const look = easel.iconButton("picture", "Look at this picture", () => {
      this.select(this.pictures.find((each) => each.job === this.listed && each.place === place) ?? this.shown);
    });
    return { node: easel.make("li", {}, name, bar, words, look), name, bar, fill, words, look };
  }

  fillRow(job, hash, place) {
    const row = this.rows[place];
    const picture = job.pictures?.find((each) => each.place === place);
    const ended = ["done", "failed", "interrupted"].includes(job.status);
    const at = job.reached - 1; // the picture in hand
    const share = picture ? 1 : at === place && !ended ? job.step / Math.max(job.steps, 1) : 0;
    let text = "Waiting";
    if (picture) text = `Done, ${picture.width} × ${picture.height}`;
    else if (ended) text = job.status === "failed" ? "Failed" : at > place || job.status === "done" ? "Skipped" : "Interrupted";
    else if (at > place) text = "Skipped";
    else if (at === place) text = `${Math.round(share * 100)}%`;
    row.name.textContent = this.nameOf(hash, place);
    row.fill.style.width = `${share * 100}%`;
    row.bar.setAttribute("aria-label", row.name.textContent);
    row.bar.setAttribute("aria-valuenow", Math.round(share * 100));
    row.words.textContent = text;
    row.look.hidden = !picture;
    row.node.dataset.status = picture ? "done" : text === "Failed" ? "failed" : "";
  }
}

easel.extrasInput = (root) => { easel.extras = new ExtrasInput(root); };
easel.extrasView = (root) => { easel.results.extras = new ExtrasView(root); };
