// PNG info: the picture, what its file says (raw and parsed), which program wrote it, and where to send it.
class InspectorView {
  constructor(root) {
    const make = easel.make;
    this.input = make("input", { type: "file", id: "pnginfo_file", accept: "image/png,image/jpeg,image/webp", class: "file", "aria-label": "Open a picture file" });
    this.input.addEventListener("change", () => { if (this.input.files[0]) this.try(this.input.files[0]); this.input.value = ""; });
    this.image = make("img", { alt: "The picture that is read", hidden: true });
    this.hint = make("div", { class: "hint" }, make("i", { "aria-hidden": "true" }), make("p", {}, "Drop a PNG, JPEG or WebP file here, or click to open one."),
      make("p", { class: "small" }, "Pictures pasted from the clipboard carry no parameters."));
    this.drop = make("label", { class: "dropzone" }, this.input, this.hint, this.image);
    this.source = make("div", { class: "source", id: "pnginfo_source", role: "status" });
    this.notes = make("table", { class: "fields notes", id: "pnginfo_notes", "aria-label": "How its recipe fares here" });
    this.replayed = make("p", { class: "verdict", id: "pnginfo_verdict", role: "status", hidden: true });
    this.table = make("table", { class: "fields", id: "pnginfo_table" });
    this.text = make("pre", { class: "infotext", id: "pnginfo_text", tabindex: "0", "aria-label": "Raw text" });
    this.items = make("div", { class: "items" });
    const targets = [["txt2img", "txt2img"], ["img2img", "img2img"], ["inpaint", "Inpaint"], ["outpaint", "Outpaint"], ["extras", "Extras"]];
    this.tools = make("div", { class: "tools none" }, ...targets.map(([target, name]) => {
      const button = easel.iconButton("send", `Send picture and parameters to ${name}`, () => this.send(target), name);
      button.id = `pnginfo_send_to_${target}`;
      return button;
    }));
    this.replayButton = easel.iconButton("redo", "Make this picture again from its recipe, and compare", () => this.try_replay(), "Replay");
    this.replayButton.id = "pnginfo_replay";
    this.tools.append(this.replayButton);
    this.report = make("div", { class: "report", hidden: true }, this.source, this.tools, this.replayed, this.notes, this.table, make("h3", {}, "Text in the file"), this.text, this.items);
    root.append(this.drop, this.report);
  }

  try(file) { this.load(file).catch((error) => easel.toast(error.message)); }

  async load(source) {
    const file = typeof source === "string" ? await (await easel.request(source)).blob() : source;
    const found = await easel.sendFile("internal/png-info", file);
    this.found = found;
    URL.revokeObjectURL(this.image.src);
    this.image.src = URL.createObjectURL(file);
    this.image.hidden = false;
    this.hint.hidden = true;
    this.report.hidden = false;
    this.tools.classList.remove("none");
    this.source.textContent = [found.source || "No known program", `${found.width} × ${found.height}`, found.format].filter(Boolean).join(" · ");
    this.text.textContent = found.text || "There are no generation parameters in this file. Pictures lose them when a site, a chat or an editor saves them anew.";
    this.replayButton.hidden = !found.recipe;
    this.replayed.hidden = true;
    this.showRows(this.notes, found.notes.map(([kind, name, sentence]) => [`${name} (${kind})`, sentence]));
    this.showRows(this.table, found.fields);
    for (const row of this.table.rows) this.addTick(row, row.cells[0].textContent);
    this.showItems(found.items);
  }

  showRows(table, fields) {
    const rows = fields.map(([name, value]) => easel.make("tr", {}, easel.make("th", { scope: "row" }, name), easel.make("td", {}, value)));
    table.replaceChildren(...rows);
    table.hidden = !rows.length;
  }

  // What is not ticked is not sent on.
  addTick(row, name) {
    const tick = easel.make("input", { type: "checkbox", checked: true, "data-name": name, "aria-label": `Send on: ${name}`, title: "What is not ticked stays as the other tab has it" });
    row.cells[0].prepend(tick);
  }

  unticked() { return Array.from(this.table.querySelectorAll("input:not(:checked)"), (tick) => tick.dataset.name); }

  try_replay() {
    this.replayButton.disabled = true;
    this.replay().catch((error) => this.showVerdict("not replayed", [error.message])).finally(() => { this.replayButton.disabled = false; });
  }

  async replay() {
    const found = this.found;
    const query = `client=${easel.client}`;
    const { job } = await (await easel.request("internal/replay", { method: "POST", headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ input: found.input, client: easel.client }) })).json();
    this.showVerdict("replaying", ["the picture is being made again; it shows among the results, too"]);
    for (;;) {
      const told = await (await easel.request(`internal/replay/${job}?of=${found.input}&${query}`)).json();
      if (this.found !== found) return; // another picture was opened meanwhile
      if (told.verdict) { this.showVerdict(told.verdict, told.sentences); return; }
      await new Promise((resolve) => { setTimeout(resolve, 400); });
    }
  }

  showVerdict(kind, sentences) {
    this.replayed.hidden = false;
    this.replayed.dataset.kind = kind;
    this.replayed.textContent = `${kind[0].toUpperCase()}${kind.slice(1)}: ${sentences.join("; ")}.`;
  }

  showItems(items) {
    const blocks = Object.entries(items).map(([name, value]) =>
      easel.make("details", {}, easel.make("summary", {}, name), easel.make("pre", { class: "infotext" }, value)));
    this.items.replaceChildren(...blocks);
  }

  send(target) {
    if (!this.found) return;
    easel.sendTo(target, this.found.text, easel.url(`internal/inputs/${this.found.input}`), this.unticked()).catch((error) => easel.toast(error.message));
  }
}

easel.inspectorView = (root) => { easel.inspector = new InspectorView(root); };
