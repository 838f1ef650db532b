// What stands above the gallery's grid: what narrows it, and what can be done with the pictures that are chosen.
class GalleryFilters {
  constructor(changed) {
    const make = easel.make;
    this.changed = changed;
    this.search = easel.keptField(make("input", { type: "search", id: "gallery_search", placeholder: 'Search prompts: fox "red house" -snow', "aria-label": "Search the prompts",
      title: 'Words that all occur; "in quotes" one after the other; -without; negative:word', oninput: () => this.soon() }));
    this.order = this.select("order", "Sort by", GalleryView.ORDERS, "");
    this.checkpoint = this.select("checkpoint", "Checkpoint", [], "Any checkpoint");
    this.lora = this.select("lora", "LoRA", [], "Any LoRA");
    this.sampler = this.select("sampler", "Sampler", [], "Any sampler");
    this.size = this.select("size", "Size", [], "Any size");
    this.tag = this.select("tag", "Tag", [], "Any tag");
    this.since = easel.keptField(make("input", { type: "date", id: "gallery_since", "aria-label": "From this day on", onchange: changed }));
    this.until = easel.keptField(make("input", { type: "date", id: "gallery_until", "aria-label": "Up to this day", onchange: changed }));
    this.favourites = easel.keptField(this.switch("star", "Favourites only", "gallery_favourites"));
    this.mine = easel.keptField(this.switch("person", "Only pictures made in this browser", "gallery_mine"));
    this.missing = easel.keptField(this.switch("missing-file", "Pictures whose files are gone only", "gallery_missing"));
    this.trash = this.switch("bin", "Show the trash", "gallery_trash");
    const again = easel.iconButton("refresh", "Look for picture files that the gallery does not know yet", () => easel.gallery.lookAgain());
    const days = make("span", { class: "days" }, this.since, make("span", { "aria-hidden": "true" }, "–"), this.until);
    const narrow = make("div", { class: "bar-row narrow" }, this.checkpoint, this.lora, this.sampler, this.size, this.tag, days);
    this.more = easel.iconButton("list", "Filters", () => this.root.classList.toggle("unfolded"));
    this.more.classList.add("fold");
    this.none = easel.iconButton("close", "Clear the search and all filters", () => { this.clear(); this.changed(); });
    this.none.id = "gallery_clear";
    this.root = make("div", { class: "filters", role: "search", "aria-label": "Find pictures" },
      make("div", { class: "bar-row" }, this.search, this.order, this.favourites, this.mine, this.missing, this.trash, again, this.none, this.more), narrow);
    if (Array.from(narrow.querySelectorAll("select, input")).some((field) => field.value)) this.root.classList.add("unfolded"); // on a phone, too, one sees why
  }

  get trashed() { return this.trash.getAttribute("aria-pressed") === "true"; }
  get narrowing() {
    return [this.search, this.checkpoint, this.lora, this.sampler, this.size, this.tag, this.since, this.until].some((each) => each.value.trim())
      || [this.favourites, this.mine, this.missing].some((each) => each.getAttribute("aria-pressed") === "true");
  }

  soon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(this.changed, 200);
  }

  clear() {
    const [fields, pressed] = [[this.search, this.checkpoint, this.lora, this.sampler, this.size, this.tag, this.since, this.until], [this.favourites, this.mine, this.missing, this.trash]];
    for (const each of fields) each.value = "";
    for (const each of pressed) each.setAttribute("aria-pressed", "false");
    easel.keepFields(...fields, ...pressed);
  }

  // Only the pictures that have this: `filter` is checkpoint or lora.
  only(filter, name) {
    this.clear();
    this[filter].append(easel.make("option", { value: name }, name));
    this[filter].value = name;
    easel.keepFields(this[filter]);
    this.changed();
  }

  // What was chosen on the last visit is chosen before the server says which options there are.
  select(name, label, options, any) {
    const made = easel.make("select", { id: `gallery_${name}`, "aria-label": label, onchange: this.changed });
    made.any = any;
    const kept = easel.stored("fields_1", {})[made.id];
    this.fill(made, kept && any ? [...options, [kept, kept]] : options);
    return easel.keptField(made);
  }

  // The options anew; what is chosen stays chosen, even where no picture has it any more.
  fill(select, options) {
    const now = select.value;
    const all = now && !options.some(([value]) => value === now) ? [...options, [now, now]] : options;
    const first = select.any ? [["", select.any]] : [];
    select.replaceChildren(...[...first, ...all].map(([value, name]) => easel.make("option", { value }, name)));
    if (now) select.value = now;
  }

  switch(icon, label, id) {
    const made = easel.iconButton(icon, label, () => {
      made.setAttribute("aria-pressed", String(made.getAttribute("aria-pressed") !== "true"));
      if (made !== this.trash) easel.keepFields(made); // that is a place, which one comes back from
      this.changed();
    });
    made.id = id;
    made.setAttribute("aria-pressed", "false");
    return made;
  }

  asked() {
    const asked = new URLSearchParams({ client: easel.client, order: this.order.value });
    const fields = { q: this.search, checkpoint: this.checkpoint, lora: this.lora, sampler: this.sampler, size: this.size, tag: this.tag, since: this.since, until: this.until };
    for (const [name, field] of Object.entries(fields)) if (field.value.trim()) asked.set(name, field.value.trim());
    const pressed = { favourite: this.favourites, mine: this.mine, missing: this.missing, trashed: this.trash };
    for (const [name, button] of Object.entries(pressed)) if (button.getAttribute("aria-pressed") === "true") asked.set(name, "true");
    return asked;
  }

  refresh() { // at once, and then at most every few seconds: with many pictures it takes the server a while
    clearTimeout(this.later);
    const wait = (this.refreshed ?? 0) + 3000 - Date.now();
    if (wait > 0) this.later = setTimeout(() => this.list(), wait);
    else this.list();
  }

  async list() {
    this.refreshed = Date.now();
    try {
      const told = await (await easel.request(`internal/gallery/facets?client=${easel.client}`)).json();
      const named = (pairs) => pairs.map(([name, many]) => [name, `${name} (${many})`]);
      for (const [select, pairs] of [[this.checkpoint, told.checkpoints], [this.lora, told.loras], [this.sampler, told.samplers], [this.tag, told.tags]]) this.fill(select, named(pairs));
      this.fill(this.size, [...GalleryView.SHAPES, ...named(told.sizes)]);
      this.tags = told.tags.map(([name]) => name);
    } catch { /* the lists stay as they are until the next time */ }
  }
}

// The row of what can be done with the chosen pictures.
class GalleryChoice {
  constructor(view) {
    this.view = view;
    const button = (icon, label, act, text = label) => {
      const made = easel.iconButton(icon, label, () => act(view.chosenCards()), text);
      made.id = `gallery_choice_${icon}`;
      return made;
    };
    this.words = easel.make("span", { class: "many", role: "status" });
    this.compare = button("compare", "Compare these two", ([one, two]) => easel.compare(view, one, two), "Compare");
    this.outside = [
      button("download", "Download as ZIP", (cards) => this.zip(cards), "ZIP"),
      button("star", "Favourite, or no longer", (cards) => view.favourite(cards), "Favourite"),
      button("tag", "Add tags", (cards) => this.tag(cards), "Tag"),
      this.compare,
      button("bin", "Move to the trash (Del)", (cards) => view.trash(cards), "Trash"),
    ];
    this.inside = [
      button("undo", "Bring back from the trash", (cards) => view.restore(cards), "Restore"),
      button("close", "Delete for ever", (cards) => view.remove(cards), "Delete"),
    ];
    this.all = easel.iconButton("bin", "Empty the trash", () => view.emptyTrash(), "Empty the trash");
    this.all.id = "gallery_empty_trash";
    const none = easel.iconButton("close", "Choose none (Esc)", () => view.choose([]));
    this.chosen = easel.make("span", { class: "acts" }, this.words, ...this.outside, ...this.inside, none);
    this.root = easel.make("div", { class: "bar-row choice", role: "toolbar", "aria-label": "Chosen pictures" }, this.chosen, this.all);
  }

  show() {
    const many = this.view.chosen.size;
    this.words.textContent = `${many} chosen`;
    this.chosen.hidden = !many;
    for (const each of this.outside) each.hidden = this.view.inTrash;
    for (const each of this.inside) each.hidden = !this.view.inTrash;
    this.compare.disabled = many !== 2;
    this.all.hidden = !this.view.inTrash || Boolean(many) || !this.view.cards.length;
    this.root.hidden = this.chosen.hidden && this.all.hidden;
  }

  zip(cards) {
    const ids = cards.map((card) => card.id).join(",");
    easel.saveFile(easel.url(`internal/gallery/zip?ids=${ids}&client=${easel.client}`), "easel-pictures.zip");
  }

  async tag(cards) {
    const text = await easel.askText(`Tags for ${cards.length === 1 ? "this picture" : `${cards.length} pictures`}, commas between them`, this.view.filters.tags ?? []);
    const tags = (text ?? "").split(",").map((each) => each.trim()).filter(Boolean);
    if (tags.length) await this.view.tag(cards, tags);
  }
}

// --- Small dialogs: a question, a line of text, two pictures one over the other ----------------------------------------------

easel.dialog = (label, kind, ...content) => {
  const before = document.activeElement;
  const dialog = easel.make("dialog", { class: kind, "aria-label": label }, ...content);
  dialog.addEventListener("close", () => {
    easel.dialogs = easel.dialogs.filter((each) => each !== dialog);
    const toasts = dialog.querySelector("#easel_toasts");
    if (toasts) document.body.append(toasts);
    dialog.remove();
    before?.focus?.({ preventScroll: true });
  });
  (document.querySelector(".gradio-container .contain") ?? document.body).append(dialog); // Gradio lets rules for narrow windows count only there
  dialog.showModal();
  easel.dialogs.push(dialog);
  return dialog;
};

// Whether the person agrees.
easel.confirm = (question, yes) => new Promise((resolve) => {
  let agreed = false;
  const make = easel.make;
  const agree = make("button", { type: "button", class: "tool", id: "dialog_yes", onclick: () => { agreed = true; dialog.close(); } }, yes);
  const dialog = easel.dialog(question, "about small", make("p", {}, question),
    make("div", { class: "buttons" }, agree, make("button", { type: "button", class: "tool", autofocus: true, onclick: () => dialog.close() }, "Cancel")));
  dialog.addEventListener("close", () => resolve(agreed));
});

// What the person types, null where they leave; `known` is offered.
easel.askText = (question, known) => new Promise((resolve) => {
  let text = null;
  const make = easel.make;
  const input = make("input", { type: "text", list: "dialog_known", id: "dialog_text", autofocus: true });
  const form = make("form", { onsubmit: (event) => { event.preventDefault(); text = input.value; dialog.close(); } }, make("label", {}, question, input),
    make("datalist", { id: "dialog_known" }, ...known.map((each) => make("option", { value: each }))),
    make("div", { class: "buttons" }, make("button", { type: "submit", class: "tool" }, "Save"), make("button", { type: "button", class: "tool", onclick: () => dialog.close() }, "Cancel")));
  const dialog = easel.dialog(question, "about small", form);
  dialog.addEventListener("close", () => resolve(text));
});

// The first picture lies over the second, as far as the line that is dragged over them: the pair of the Extras tab.
easel.compare = (view, one, two) => {
  const make = easel.make;
  const picture = (name, card) => make("img", { class: name, src: view.address(card), alt: view.label(card), draggable: "false" });
  const slide = () => pair.style.setProperty("--at", `${slider.value}%`);
  const slider = make("input", { type: "range", class: "divide", min: 0, max: 100, value: 50, step: 0.5, autofocus: true, "aria-label": "How much of the first picture is seen", oninput: slide });
  const pair = make("div", { class: "pair" }, picture("after", two), picture("before", one), slider, make("div", { class: "divider", "aria-hidden": "true" }));
  pair.style.setProperty("--ratio", two.width / two.height);
  const names = make("div", { class: "names" }, make("span", {}, view.label(one)), make("span", {}, view.label(two)));
  const dialog = easel.dialog("Two pictures compared", "compared", make("header", {}, names, easel.iconButton("close", "Close", () => dialog.close())), make("div", { class: "room" }, pair));
  slide();
};
