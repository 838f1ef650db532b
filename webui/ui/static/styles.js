// Styles: pieces of prompt under a name. Their editor, and writing the chosen ones into the prompts for good.
// What is typed into the editor is kept in this browser, style by style, until it is saved or given up.
easel.styles = {};

easel.styles.ask = async (path, body) => (await easel.request(`internal/styles${path}`, body && {
  method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
})).json();

// The list of the tab is emptied: what the styles say is in the prompts now.
easel.styles.apply = (tab, chosen) => {
  if (!chosen?.length) {
    easel.toast("Choose styles below the prompts first.");
    return chosen;
  }
  const texts = easel.prompt.texts(tab);
  easel.styles.ask("/applied", { names: chosen, prompt: texts.prompt, negative_prompt: texts.neg_prompt })
    .then((told) => easel.prompt.put(tab, { prompt: told.prompt, neg_prompt: told.negative_prompt }))
    .catch((error) => easel.toast(error.message));
  return [];
};

easel.styles.open = (tab, chosen) => {
  new StyleEditor(tab, chosen?.[0] ?? "").start().catch((error) => easel.toast(error.message));
  return chosen;
};

class StyleEditor {
  constructor(tab, first) {
    const make = easel.make;
    this.tab = tab;
    this.first = first;
    this.list = make("select", { id: "style_list", size: 8, translate: "no", "aria-label": "Styles", onchange: () => this.show(this.list.value) });
    this.name = make("input", { type: "text", id: "style_name", maxlength: 200 });
    this.prompt = make("textarea", { rows: 3, id: "style_prompt" });
    this.negative = make("textarea", { rows: 2, id: "style_negative" });
    this.file = make("input", { type: "text", id: "style_file", list: "style_files" });
    this.files = make("datalist", { id: "style_files" });
    this.back = easel.iconButton("refresh", "Give up what is not saved yet", () => { this.forget(this.now); this.show(this.now); }, "As saved");
    this.back.id = "style_back";
    this.remove = easel.iconButton("bin", "Delete this style", () => this.attempt(() => this.delete()), "Delete");
    const tool = (icon, label, act, text) => easel.iconButton(icon, label, () => this.attempt(act), text);
    this.form = make("form", { oninput: () => this.keep(), onsubmit: (event) => { event.preventDefault(); this.attempt(() => this.save()); } },
      make("label", {}, "Name", this.name), make("label", {}, "Prompt", this.prompt), make("label", {}, "Negative prompt", this.negative),
      make("label", {}, "File", this.file), this.files,
      make("p", { class: "words" }, "Where a style says {prompt}, your own prompt is put; without it the style stands behind."),
      make("div", { class: "buttons" }, make("button", { type: "submit", class: "tool", id: "style_save" }, "Save"),
        tool("paste", "Take the prompts of this tab", () => this.take(), "Take the prompts"), this.back, this.remove));
  }

  attempt(act) { Promise.resolve().then(act).catch((error) => easel.toast(error.message)); }

  async start() {
    await this.load();
    const make = easel.make;
    this.dialog = easel.dialog("Styles", "about style-editor",
      make("header", {}, make("h2", {}, "Styles"), easel.iconButton("close", "Close", () => this.dialog.close())),
      make("div", { class: "halves" }, make("div", {}, this.list, easel.iconButton("picture", "A new style", () => this.show(""), "New style")), this.form));
    this.show(this.first);
  }

  async load() {
    const told = await easel.styles.ask("");
    this.styles = new Map(told.styles.map((style) => [style.name, style]));
    this.list.replaceChildren(...told.styles.map((style) => easel.make("option", { value: style.name }, style.name)));
    this.files.replaceChildren(...told.files.map((file) => easel.make("option", { value: file })));
  }

  show(name) {
    const style = this.styles.get(name) ?? { name: "", prompt: "", negative_prompt: "", file: "styles.csv" };
    const typed = easel.stored("styles_1", {})[style.name];
    const shown = typed ?? style;
    this.now = style.name;
    this.list.value = style.name;
    this.name.value = shown.name;
    this.prompt.value = shown.prompt;
    this.negative.value = shown.negative_prompt;
    this.file.value = shown.file;
    this.back.hidden = !typed;
    this.file.disabled = Boolean(style.name); // a style stays in its file
    this.remove.hidden = !style.name;
    this.name.focus();
  }

  take() {
    const texts = easel.prompt.texts(this.tab);
    this.prompt.value = texts.prompt;
    this.negative.value = texts.neg_prompt;
    this.keep();
  }

  typed() { return { name: this.name.value.trim(), prompt: this.prompt.value, negative_prompt: this.negative.value, file: this.file.value.trim() }; }

  keep() {
    easel.store("styles_1", { ...easel.stored("styles_1", {}), [this.now]: this.typed() });
    this.back.hidden = false;
  }

  forget(name) {
    const { [name]: _, ...others } = easel.stored("styles_1", {});
    easel.store("styles_1", others);
  }

  async save() {
    const was = this.now;
    const { name, ...texts } = this.typed();
    await easel.styles.ask("", { name, ...texts, was });
    this.forget(was);
    await this.changed(was, name);
    easel.toast("The style is saved.");
  }

  async delete() {
    const style = this.styles.get(this.now);
    await easel.styles.ask("/remove", { name: style.name });
    this.forget(style.name);
    await this.changed("", "");
    easel.toast("The style is deleted.", { label: "Undo", act: () => this.attempt(async () => {
      await easel.styles.ask("", style);
      await this.changed("", style.name);
    }) });
  }

  async changed(was, name) {
    easel.fire("quick", "styles", { was, name });
    await this.load();
    this.show(name);
  }
}
