// Model files as cards, in tabs beside the settings: search, sort and page through them; a click puts one into the prompt or, a checkpoint,
// into the top row.
// The server filters and pages (internal/models); what files say about themselves is only ever shown as text.
class CardsView {
  static KINDS = { lora: "LoRA", embedding: "Embeddings", hypernetwork: "Hypernetworks", checkpoint: "Checkpoints" };
  static FOLDERS = { lora: "loras/", embedding: "embeddings/", hypernetwork: "models/hypernetworks/", checkpoint: "models/Stable-diffusion/" };
  static SORTS = { name: ["Name", 0], date: ["Newest first", 1], size: ["Largest first", 1] };
  static FAMILIES = { "": "All families", sd1: "SD 1.x", sd2: "SD 2.x", sdxl: "SDXL", sdxl_refiner: "SDXL refiner", miniature: "Miniature", unknown: "Unknown" };
  static COUNT = 60; // cards a page

  constructor(root, tab) {
    const make = easel.make;
    this.tab = tab;
    this.kind = ""; // none: the settings are shown
    this.page = 0;
    this.query = 0; // rises with every question, so that a late answer is known
    this.search = make("input", { type: "search", placeholder: "Search", "aria-label": "Search model files",
      oninput: () => { clearTimeout(this.timer); this.timer = setTimeout(() => this.restart(), 150); } });
    this.sort = this.chooser("Sort by", Object.entries(CardsView.SORTS).map(([value, [name]]) => [value, name]));
    this.family = this.chooser("Model family", Object.entries(CardsView.FAMILIES));
    this.folder = this.chooser("Folder", []);
    const tabs = Object.entries(tab === "merger" ? CardsView.KINDS : { "": "Generation", ...CardsView.KINDS });
    this.kinds = make("div", { class: "kinds", role: "tablist", "aria-label": "Settings and model files" }, ...tabs.map(([kind, name]) =>
      make("button", { type: "button", role: "tab", class: "tool", "data-kind": kind, ...(kind && { "aria-controls": `${tab}_cards` }), onclick: () => this.open(kind) }, name)));
    this.grid = make("div", { class: "grid" });
    this.note = make("p", { class: "note", role: "status" });
    this.more = make("button", { type: "button", class: "tool more", hidden: true, onclick: () => { this.page += 1; this.load(); } }, "Show more");
    const refresh = easel.iconButton("refresh", "Look for new files", () => this.refresh());
    this.panel = make("div", { class: "panel", id: `${tab}_cards`, role: "tabpanel", "aria-label": "Model files", hidden: true }, make("div", { class: "bar-row" }, this.search, this.folder, this.family, this.sort, refresh),
      this.grid, this.note, this.more);
    root.append(this.kinds, this.panel);
    this.settings = root.closest(".area-settings"); // make way for the cards
    this.open("");
    document.addEventListener("easel:checkpoint", () => { if (this.kind) this.restart(); });
    const pressed = (event) => { // where one clicks or types, not where Tab passes; on the document, for Gradio may draw the prompts anew
      const prompt = event.target.closest?.(`#${tab}_prompt, #${tab}_neg_prompt`);
      if (prompt) this.field = prompt.id.slice(tab.length + 1);
    };
    for (const kind of ["input", "pointerdown"]) document.addEventListener(kind, pressed, true);
  }

  open(kind) {
    this.kind = kind;
    for (const each of this.kinds.children) each.setAttribute("aria-selected", String(each.dataset.kind === kind));
    this.panel.hidden = !kind;
    this.settings?.classList.toggle("browsing", Boolean(kind));
    this.folder.value = "";
    this.grid.replaceChildren(); // another kind's cards never stand under this one's name, whatever the server answers
    this.note.textContent = "";
    if (kind) this.restart();
  }

  chooser(label, options) {
    const choice = easel.make("select", { "aria-label": label, onchange: () => this.restart() });
    choice.append(...options.map(([value, name]) => easel.make("option", { value }, name)));
    return choice;
  }

  offerFolders(folders) { // what lies within another is indented, as in a tree
    const chosen = this.folder.value;
    const option = (value) => {
      const parts = value.split("/");
      return easel.make("option", { value, translate: "no" }, "\u2003".repeat(parts.length - 1) + parts.at(-1));
    };
    this.folder.replaceChildren(easel.make("option", { value: "" }, "All folders"), ...folders.map(option));
    this.folder.value = folders.includes(chosen) ? chosen : "";
    this.folder.hidden = !folders.length;
  }

  restart() {
    this.page = 0;
    this.load();
  }

  async load() {
    const asked = ++this.query;
    const wanted = new URLSearchParams({ kind: this.kind, q: this.search.value.trim(), family: this.family.value, folder: this.folder.value, sort: this.sort.value,
      down: CardsView.SORTS[this.sort.value][1], page: this.page, count: CardsView.COUNT,
      checkpoint: easel.overrides.of(this.tab).checkpoint ?? document.querySelector("#setting_checkpoint input")?.value ?? "" });
    try {
      const found = await (await easel.request(`internal/models?${wanted}`)).json();
      if (asked === this.query) this.show(found);
    } catch (error) {
      if (asked === this.query) this.note.textContent = error.message;
    }
  }

  show(found) {
    this.offerFolders(found.folders);
    const cards = found.models.map((model) => this.card(model));
    if (this.page) this.grid.append(...cards);
    else this.grid.replaceChildren(...cards);
    const missing = this.search.value || this.family.value || this.folder.value ? "Nothing here matches." : `No files of this kind yet. Put some into ${CardsView.FOLDERS[this.kind]} and press the arrow.`;
    this.note.textContent = (found.total ? `${found.total} ${found.total === 1 ? "file" : "files"}` : missing) + (found.scanning ? " · still looking" : "");
    this.more.hidden = this.grid.childElementCount >= found.total;
    clearTimeout(this.again);
    if (found.scanning && !this.page) this.again = setTimeout(() => { if (this.kind) this.restart(); }, 1000);
  }

  card(model) {
    const make = easel.make;
    const picture = model.thumbnail ? make("img", { src: easel.url(model.thumbnail), alt: "", loading: "lazy" }) : make("i", { "aria-hidden": "true" });
    const words = [model.family_title, model.problem || (model.skipped && "skipped")].filter(Boolean).join(" · ");
    const main = make("button", { type: "button", class: "take", title: model.problem || model.skipped || model.description || model.name, onclick: () => this.take(model) },
      make("span", { class: "picture" }, picture), make("span", { class: "name" }, easel.stem(model.name)), make("span", { class: "words" }, words));
    const about = easel.iconButton("info", `About ${model.name}`, () => easel.modelDialog(model, () => this.restart()));
    return make("div", { class: `card${model.problem || model.skipped ? " unusable" : ""}`, "data-name": model.name }, main, about);
  }

  take(model) {
    if (model.problem) return easel.toast(`${model.name} cannot be used: ${model.problem}`);
    if (model.kind === "checkpoint") {
      easel.overrides.drop("checkpoint");
      return easel.fire("quick", "checkpoint", { name: model.name });
    }
    if (model.skipped) easel.toast(`${model.name} does nothing here: it is ${model.skipped}`);
    if (this.tab === "merger") easel.openTab("txt2img"); // the Models tab has no prompt of its own
    const tab = this.tab === "merger" ? "txt2img" : this.tab;
    const area = (field) => document.querySelector(`#${tab}_${field} textarea`);
    const field = this.field ?? "prompt";
    if (!easel.togglePrompt(area(field), model) || !model.negative || field !== "prompt") return;
    easel.addWords(area("neg_prompt"), model.negative);
    area(field).focus();
    this.field = field; // where the next card goes
  }

  async refresh() {
    try {
      await easel.request("internal/models/refresh", { method: "POST" });
      this.restart();
    } catch (error) {
      easel.toast(error.message);
    }
  }
}

easel.stem = (name) => name.replace(/\.[a-z]+$/i, "");

// Puts a network with its trigger words into a prompt, or takes them out again where it is there already. Returns whether it was put in.
// Typing it keeps the browser's undo.
easel.togglePrompt = (area, model) => {
  const escaped = model.insert.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  const pattern = model.insert.startsWith("<") ? escaped.replace(/:[^:]*>$/, ":[^>]*>") : `\\b${escaped}\\b`;
  const there = new RegExp(`,?\\s*${pattern}`).exec(area.value);
  if (there) {
    const end = there.index + there[0].length;
    const said = model.triggers && area.value.startsWith(`, ${model.triggers}`, end) ? `, ${model.triggers}` : "";
    area.focus();
    area.setSelectionRange(there.index, end + said.length);
    document.execCommand("delete");
    return false;
  }
  easel.addWords(area, model.triggers && !area.value.includes(model.triggers) ? `${model.insert}, ${model.triggers}` : model.insert);
  return true;
};

// Adds words at the end of a prompt, unless they are in it already.
easel.addWords = (area, words) => {
  if (area.value.includes(words)) return;
  const before = area.value.trimEnd();
  area.focus();
  area.setSelectionRange(before.length, area.value.length);
  document.execCommand("insertText", false, `${before ? (before.endsWith(",") ? " " : ", ") : ""}${words}`);
};

// What is known of one file, and the user's own notes about it.
easel.modelDialog = async (model, changed) => {
  const make = easel.make;
  const path = `internal/models/${model.kind}/${model.name.split("/").map(encodeURIComponent).join("/")}`;
  let told;
  try {
    told = await (await easel.request(`${path}/details`)).json();
  } catch (error) {
    easel.toast(error.message);
    return;
  }
  const fields = model.kind === "checkpoint"
    ? { description: ["Description", 3], vae: ["Preferred VAE: a file's name, or None for its own", 1],
      text_encoder: ["Text encoders that it lacks: names of files in models/text_encoder/", 1],
      prediction_type: ["Prediction type, where its file says it wrongly", ["", "epsilon", "v_prediction", "v_prediction + zero terminal SNR"]],
      native_size: ["Native size in pixels, where its family does not tell (0: it does)", 1], notes: ["Notes", 2] }
    : { description: ["Description", 3], triggers: ["Trigger words", 1], negative: ["Negative prompt", 1], weight: ["Preferred weight", 1], notes: ["Notes", 2] };
  const input = (kind, value) => Array.isArray(kind)
    ? make("select", {}, ...kind.map((each) => make("option", { value: each, selected: each === value }, each || "As the file says")))
    : make("textarea", { rows: kind }, value);
  const inputs = Object.fromEntries(Object.entries(fields).map(([name, [, kind]]) => [name, input(kind, String(told[name] ?? ""))]));
  const labels = Object.entries(fields).map(([name, [label]]) => make("label", {}, label, inputs[name]));
  const rows = (told.metadata ?? []).map(([name, value]) => make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, value)));
  const send = async (what, body, said) => {
    try {
      await easel.request(`${path}/${what}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
      easel.toast(said);
      changed();
      dialog.close();
    } catch (error) {
      easel.toast(error.message);
    }
  };
  const save = () => {
    const texts = Object.fromEntries(Object.entries(inputs).map(([name, input]) => [name, input.value]));
    if ("weight" in texts) texts.weight = texts.weight.trim() ? Number(texts.weight) : 1;
    return send("sidecar", texts, "Saved beside the file.");
  };
  const last = () => Object.values(easel.results).map((view) => view.shown).find(Boolean);
  const picture = () => {
    const shown = easel.results[easel.currentTab()]?.shown ?? last();
    if (!shown) return easel.toast("There is no picture yet; make one first.");
    return send("thumbnail", { picture: shown.id }, "The picture is its thumbnail now.");
  };
  const used = make("button", { type: "button", class: "tool", hidden: true, onclick: () => { dialog.close(); easel.showUses(model); } });
  easel.countUses(model).then((many) => { used.hidden = many === null; used.textContent = many === 1 ? "Used by 1 picture" : `Used by ${many} pictures`; }).catch(() => {});
  const dialog = make("dialog", { class: "about", "aria-label": `About ${model.name}` },
    make("header", {}, make("h2", {}, easel.stem(model.name)), easel.iconButton("close", "Close", () => dialog.close())),
    make("form", { onsubmit: (event) => { event.preventDefault(); save(); } }, ...labels,
      make("div", { class: "buttons" }, make("button", { type: "submit", class: "tool" }, "Save"),
        make("button", { type: "button", class: "tool", onclick: picture }, "Use the picture shown as thumbnail"), used)),
    make("table", { class: "fields" }, ...rows));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
};

// How the gallery finds a model's pictures: [filter, what it is there]; null for kinds that it knows nothing of.
easel.useOf = (model) => {
  if (model.kind === "checkpoint") return ["checkpoint", easel.stem(model.name.split("/").at(-1))];
  const name = /^<lora:(.+):[^:]*>$/.exec(model.insert)?.[1];
  return name ? ["lora", name] : null;
};
easel.countUses = async (model) => {
  const use = easel.useOf(model);
  if (!use) return null;
  return (await (await easel.request(`internal/gallery/count?${new URLSearchParams([use, ["client", easel.client]])}`)).json()).total;
};
easel.showUses = (model) => {
  const [filter, name] = easel.useOf(model);
  easel.openTab("gallery");
  easel.gallery.filters.only(filter, name);
};

easel.cardsView = (root, tab) => {
  const view = new CardsView(root, tab);
  if (tab !== "merger") return;
  const open = () => { if (easel.currentTab() === "merger" && !view.kind) view.open("lora"); }; // nothing is fetched before somebody looks
  document.addEventListener("easel:tab", open);
  open();
};
