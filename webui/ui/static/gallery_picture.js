// One picture of the gallery, large: what it says, where it can go, what it was made from and what was made from it.
class PictureDialog {
  static RELATIONS = { img2img: "img2img", inpaint: "inpainted", outpaint: "outpainted", upscale: "enlarged", replay: "same recipe" };

  constructor(view, card) {
    const make = easel.make;
    this.view = view;
    this.stage = new ZoomStage((by) => this.move(by), () => this.dialog.close());
    this.star = easel.iconButton("star", "Favourite (.)", () => this.favour());
    this.save = easel.iconButton("download", "Save the file (S)", () => easel.saveFile(view.address(this.card), easel.fileName(this.card)));
    this.bin = easel.iconButton("bin", "Move to the trash (Del)", () => this.discard());
    this.back = easel.iconButton("undo", "Bring back from the trash", () => this.restore());
    const tools = [
      easel.iconButton("before", "Picture before (Left)", () => this.move(-1)), easel.iconButton("after", "Picture after (Right)", () => this.move(1)),
      easel.iconButton("zoom-out", "Smaller (-)", () => this.stage.zoom(1 / 1.4)), easel.iconButton("zoom-in", "Larger (+)", () => this.stage.zoom(1.4)),
      this.star, this.save, this.bin, this.back,
    ];
    this.panel = make("div", { class: "panel" });
    this.dialog = easel.dialog("Picture", "shown-picture",
      make("div", { class: "left" }, make("div", { class: "bar-row", role: "toolbar", "aria-label": "Picture" }, ...tools,
        make("span", { class: "stretch" }), easel.iconButton("close", "Close (Esc)", () => this.dialog.close())), this.stage.root), this.panel);
    this.dialog.addEventListener("keydown", (event) => this.pressed(event));
    this.dialog.addEventListener("close", () => { if (view.visible) view.focus(this.index()); });
    this.show(card);
  }

  show(card) {
    this.card = card;
    const index = this.index();
    if (index > this.view.cards.length - 20) this.view.more();
    this.stage.show(this.view.address(card), this.view.label(card));
    this.dress();
    this.tell(card);
    this.load(card);
  }

  index() { return this.view.cards.findIndex((each) => each.id === this.card.id); }

  dress() {
    const trashed = this.card.trashed > 0;
    this.star.setAttribute("aria-pressed", String(this.card.favourite));
    this.star.hidden = trashed;
    this.bin.hidden = trashed;
    this.back.hidden = !trashed;
  }

  async load(card) {
    try {
      const told = await (await easel.request(`internal/gallery/${card.id}?client=${easel.client}`)).json();
      if (this.card.id === card.id) this.learn(told);
    } catch (error) {
      easel.toast(error.message);
    }
  }

  move(by) {
    const next = this.view.cards[this.index() + by];
    if (next) this.show(next);
  }

  favour() {
    this.view.favourite([this.card]);
    this.dress();
  }

  async discard() {
    const { card } = this;
    const at = this.index();
    await this.view.trash([card]);
    const next = this.view.cards[Math.min(Math.max(at, 0), this.view.cards.length - 1)];
    if (next) this.show(next);
    else this.dialog.close();
  }

  async restore() {
    await this.view.restore([this.card]);
    this.dialog.close();
  }

  pressed(event) {
    if (event.target.matches("input, textarea, select") || event.ctrlKey || event.metaKey || event.altKey) return;
    const acts = { ArrowLeft: () => this.move(-1), ArrowRight: () => this.move(1), s: () => this.save.click(), ".": () => this.favour(),
      Delete: () => { if (!this.card.trashed) this.discard(); }, ...this.stage.keys() };
    if (!(event.key in acts)) return;
    event.preventDefault();
    acts[event.key]();
  }

  // --- What is told of it ------------------------------------------------------------------------------------------------

  tell(card) { // what its card says; the rest comes with `learn`
    const make = easel.make;
    const facts = [["Size", `${card.width} × ${card.height}`], ["Checkpoint", card.checkpoint], ["Sampler", card.sampler], ["Seed", card.seed],
      ["Made", new Date(card.created * 1000).toLocaleString()], ["File", card.name]].filter(([, value]) => value);
    const table = make("table", { class: "fields" }, ...facts.map(([name, value]) => make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, value))));
    this.text = make("pre", { class: "infotext", tabindex: "0", "aria-label": "Parameters" }, card.words);
    this.relatives = make("div", { class: "relatives" });
    const info = make("div", { class: "info" }, this.text, easel.iconButton("copy", "Copy the parameters", () => easel.copyText(this.text)));
    const gone = card.missing ? [make("p", { class: "gone" }, "The file of this picture is gone. It can be forgotten: Del.")] : [];
    this.panel.replaceChildren(...gone, this.sendRow(), this.tagRow(card), info, this.relatives, table);
    this.panel.scrollTop = 0;
  }

  learn(told) {
    this.text.textContent = told.infotext;
    this.relatives.replaceChildren(...this.family("Made from", told.made_from), ...this.family("Made into", told.made_into));
    for (const button of this.sending) button.disabled = told.missing;
  }

  sendRow() {
    const targets = [["txt2img", "txt2img"], ["img2img", "img2img"], ["inpaint", "Inpaint"], ["outpaint", "Outpaint"], ["extras", "Extras"], ["png_info", "PNG info"]];
    const offered = targets.filter(([target]) => target === "inpaint" || target in easel.tabNames);
    const button = (icon, id, title, act, text) => {
      const made = easel.iconButton(icon, title, act, text);
      made.id = `shown_${id}`;
      made.disabled = true;
      return made;
    };
    this.sending = offered.map(([target, name]) => button("send", `send_to_${target}`, `Send picture and parameters to ${name}`, () => this.send(target), name));
    this.sending.push(button("redo", "again", "Make this picture again from its recipe", () => this.again(false), "Again"),
      button("dice", "another", "Make another one like it, with a new seed", () => this.again(true), "Another"));
    return easel.make("div", { class: "tools" }, ...this.sending);
  }

  send(target) {
    const text = target === "png_info" ? "" : this.text.textContent;
    const address = this.view.address(this.card);
    this.dialog.close();
    easel.sendTo(target, text, address).catch((error) => easel.toast(error.message));
  }

  async again(newSeed) {
    try {
      await this.view.order("again", [this.card], { new_seed: newSeed });
      easel.toast("Queued: the picture comes into the gallery when it is done.");
    } catch (error) {
      easel.toast(error.message);
    }
  }

  tagRow(card) {
    const make = easel.make;
    const change = async (add, remove) => {
      await this.view.tag([card], add, remove);
      card.tags = (await (await easel.request(`internal/gallery/${card.id}?client=${easel.client}`)).json()).tags;
      if (this.card.id === card.id) { row.replaceWith(this.tagRow(card)); this.panel.querySelector(".tags input")?.focus(); }
    };
    const chips = card.tags.map((name) => make("span", { class: "chip" }, name, easel.iconButton("close", `Take the tag ${name} away`, () => change([], [name]))));
    const input = make("input", { type: "text", list: "shown_tags", placeholder: "Add a tag", "aria-label": "Add a tag", id: "shown_tag",
      onkeydown: (event) => { if (event.key === "Enter" && input.value.trim()) { event.preventDefault(); change(input.value.split(","), []); } } });
    const row = make("div", { class: "tags" }, ...chips, input, make("datalist", { id: "shown_tags" }, ...(this.view.filters.tags ?? []).map((name) => make("option", { value: name }))));
    return row;
  }

  family(title, relatives) {
    if (!relatives?.length) return [];
    const make = easel.make;
    const each = (relative) => make("button", { type: "button", class: "relative", title: this.view.label(relative), onclick: () => this.show(relative) },
      make("img", { src: this.view.thumbnail(relative), alt: this.view.label(relative) }), make("span", {}, PictureDialog.RELATIONS[relative.relation] ?? relative.relation));
    return [make("h3", {}, title), make("div", { class: "family", "data-kind": title }, ...relatives.map(each))];
  }
}

easel.showPicture = (view, card) => new PictureDialog(view, card);

easel.copyText = async (node) => {
  try {
    await navigator.clipboard.writeText(node.textContent);
    easel.toast("Parameters copied.");
  } catch { // only secure pages may use the clipboard: select the text instead
    getSelection().selectAllChildren(node);
  }
};

// A picture that is dragged over a tab's name opens that tab, so that it can be dropped there.
easel.watchTabsForDrags = () => {
  let over = null;
  let timer = null;
  document.addEventListener("dragover", (event) => {
    const tab = event.target.closest?.("#tabs [role=tab]") ?? null;
    if (tab) event.preventDefault();
    if (tab === over) return;
    over = tab;
    clearTimeout(timer);
    if (tab) timer = setTimeout(() => easel.openTab(tab.dataset.tab), 350);
  });
  document.addEventListener("dragend", () => { clearTimeout(timer); over = null; });
};
easel.watchTabsForDrags();
