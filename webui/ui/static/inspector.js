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
    this.table = make("table", { class: "fields", id: "pnginfo_table" });
    this.text = make("pre", { class: "infotext", id: "pnginfo_text", tabindex: "0", "aria-label": "Raw text" });
    this.items = make("div", { class: "items" });
    const targets = [["txt2img", "txt2img"], ["img2img", "img2img"], ["inpaint", "Inpaint"], ["outpaint", "Outpaint"]];
    this.tools = make("div", { class: "tools none" }, ...targets.map(([target, name]) => {
      const button = easel.iconButton("send", `Send picture and parameters to ${name}`, () => this.send(target), name);
      button.id = `pnginfo_send_to_${target}`;
      return button;
    }));
    this.report = make("div", { class: "report", hidden: true }, this.source, this.tools, this.table, make("h3", {}, "Text in the file"), this.text, this.items);
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
    this.showTable(found.fields);
    this.showItems(found.items);
  }

  showTable(fields) {
    const rows = fields.map(([name, value]) => easel.make("tr", {}, easel.make("th", { scope: "row" }, name), easel.make("td", {}, value)));
    this.table.replaceChildren(...rows);
    this.table.hidden = !rows.length;
  }

  showItems(items) {
    const blocks = Object.entries(items).map(([name, value]) =>
      easel.make("details", {}, easel.make("summary", {}, name), easel.make("pre", { class: "infotext" }, value)));
    this.items.replaceChildren(...blocks);
  }

  send(target) {
    if (!this.found) return;
    easel.sendTo(target, this.found.text, easel.url(`internal/inputs/${this.found.input}`)).catch((error) => easel.toast(error.message));
  }
}

easel.inspectorView = (root) => { easel.inspector = new InspectorView(root); };
