// The gallery: a grid of every saved picture, of which only the rows near the window are in the page. The server searches and pages
// (internal/gallery); what pictures say about themselves is only ever shown as text. The grid is a list box: arrows move, Enter opens,
// Space chooses, Shift and Ctrl choose several.
class GalleryView {
  static ORDERS = [["newest", "Newest first"], ["oldest", "Oldest first"], ["largest", "Largest first"], ["smallest", "Smallest first"]];
  static SHAPES = [["portrait", "Portrait"], ["landscape", "Landscape"], ["square", "Square"]];
  static FIRST = 100; // pictures on the first page
  static PAGE = 250; // on those that follow
  static GAP = 8; // pixels between pictures
  static BEYOND = 600; // pixels above and below the window that are drawn, too

  constructor(root) {
    Object.assign(this, { root, cards: [], next: "", nodes: new Map(), chosen: new Set(), at: 0, from: 0, query: 0, revision: 0, total: null, stale: true, inTrash: false });
    const make = easel.make;
    this.filters = new GalleryFilters(() => this.restart());
    this.choice = new GalleryChoice(this);
    this.note = make("p", { class: "note", role: "status" });
    this.news = make("button", { type: "button", class: "tool news", hidden: true, onclick: () => { window.scrollTo({ top: 0 }); this.news.hidden = true; } });
    this.grid = make("div", { class: "shots", role: "listbox", id: "gallery_grid", "aria-multiselectable": "true", "aria-label": "Pictures" });
    this.empty = make("p", { class: "nothing", hidden: true });
    root.append(make("div", { class: "head" }, this.filters.root, this.choice.root), this.note, this.news, this.grid, this.empty);
    this.watchGrid();
    const draw = () => { this.drawing ??= requestAnimationFrame(() => { this.drawing = null; this.draw(); }); };
    window.addEventListener("scroll", draw, { passive: true });
    new ResizeObserver(draw).observe(this.grid);
    document.addEventListener("easel:tab", () => { if (this.visible) { if (this.stale) this.arrive(); draw(); } });
  }

  get visible() { return easel.currentTab() === "gallery"; }
  address(card) { return easel.url(`internal/pictures/${card.id}?v=${card.version}&client=${easel.client}`); }
  thumbnail(card) { return easel.url(`internal/gallery/${card.id}/thumbnail?v=${card.version}&client=${easel.client}`); }
  label(card) {
    const words = card.words.trim().slice(0, 90) || card.name;
    return `${words}, ${card.width} by ${card.height}${card.favourite ? ", favourite" : ""}${card.missing ? ", file missing" : ""}`;
  }

  // --- Loading: one page at a time; an answer that comes after another question is dropped --------------------------------

  async ask(cursor, count) {
    const asked = this.filters.asked();
    asked.set("cursor", cursor);
    asked.set("count", count);
    return (await easel.request(`internal/gallery?${asked}`)).json();
  }

  restart() {
    this.inTrash = this.filters.trashed;
    this.choose([]);
    this.cards = [];
    this.next = "";
    this.at = this.from = 0;
    this.total = null;
    window.scrollTo({ top: 0 });
    return this.arrive();
  }

  // What is loaded, and what is new, asked anew: what the window shows stays where it is.
  async arrive() {
    const mine = ++this.query;
    this.stale = false;
    this.loading = true;
    try {
      const page = await this.ask("", Math.min(500, Math.max(GalleryView.FIRST, this.cards.length)));
      if (mine !== this.query) return;
      this.loading = false;
      this.take(page);
      this.count(mine);
      this.filters.refresh();
    } catch (error) {
      if (mine === this.query) { this.loading = false; this.say(error.message); }
    }
  }

  take(page) {
    this.revision = page.revision;
    this.upkeep = page.upkeep;
    const anchor = this.cards[this.firstShown()];
    const loaded = new Set(page.pictures.map((card) => card.id));
    const before = new Map(this.cards.map((card) => [card.id, card]));
    page.pictures = page.pictures.map((card) => (before.has(card.id) ? Object.assign(before.get(card.id), card) : card)); // who holds one keeps it
    const fresh = before.size ? page.pictures.filter((card) => !before.has(card.id)).length : 0;
    if (this.cards.length > page.pictures.length) this.cards = [...page.pictures, ...this.cards.slice(page.pictures.length - fresh).filter((card) => !loaded.has(card.id))];
    else [this.cards, this.next] = [page.pictures, page.next];
    const there = anchor ? this.cards.findIndex((card) => card.id === anchor.id) : -1;
    const moved = there > 0 && this.scrolled() ? Math.floor(there / this.columns()) - Math.floor(this.firstShown() / this.columns()) : 0;
    this.draw(true);
    if (moved > 0) window.scrollBy(0, moved * this.pitch());
    if (moved > 0 && fresh) this.news.textContent = fresh === 1 ? "1 new picture" : `${fresh} new pictures`;
    this.news.hidden = !(moved > 0 && fresh);
    this.tell();
  }

  async count(mine) {
    try {
      const told = await (await easel.request(`internal/gallery/count?${this.filters.asked()}`)).json();
      if (mine === this.query) { this.total = told.total; this.tell(); }
    } catch (error) {
      if (mine === this.query) this.say(error.message);
    }
  }

  async more() {
    if (this.loading || !this.next) return;
    this.loading = true;
    const mine = this.query;
    try {
      const page = await this.ask(this.next, GalleryView.PAGE);
      if (mine !== this.query) return;
      const known = new Set(this.cards.map((card) => card.id));
      this.cards.push(...page.pictures.filter((card) => !known.has(card.id)));
      this.next = page.next;
      this.loading = false;
      this.draw(true);
    } catch (error) {
      this.loading = false;
      this.say(error.message);
    }
  }

  // Somebody changed something: the number of the server's gallery is another.
  changed(revision) {
    if (revision === this.revision) return;
    this.stale = true;
    clearTimeout(this.soon);
    if (this.visible) this.soon = setTimeout(() => { if (this.stale) this.arrive(); }, 200);
  }

  tell() {
    const many = this.total === null ? "" : `${this.total.toLocaleString()} ${this.total === 1 ? "picture" : "pictures"}`;
    const busy = this.upkeep?.text ? `${this.upkeep.text}${this.upkeep.total ? ` ${this.upkeep.done} of ${this.upkeep.total}` : ""}` : "";
    this.say([this.inTrash ? `In the trash: ${many}` : many, busy].filter(Boolean).join(" · "));
    const nothing = this.filters.narrowing ? "No picture fits." : this.inTrash ? "The trash is empty." : "Your pictures will be here.";
    this.filters.none.hidden = !this.filters.narrowing;
    this.empty.textContent = nothing;
    this.empty.hidden = this.cards.length > 0 || this.loading;
    this.choice.show();
  }

  say(text) { if (this.note.textContent !== text) this.note.textContent = text; }

  // --- Drawing: squares in rows; nodes belong to pictures and are only moved ----------------------------------------------

  columns() { return Math.max(2, Math.floor((this.grid.clientWidth + GalleryView.GAP) / ((this.grid.clientWidth < 600 ? 104 : 172) + GalleryView.GAP))); }
  pitch() { return (this.grid.clientWidth + GalleryView.GAP) / this.columns(); }
  scrolled() { return this.grid.getBoundingClientRect().top < 0; }
  firstShown() { return Math.max(0, Math.floor(-this.grid.getBoundingClientRect().top / this.pitch())) * this.columns(); }

  draw(anew = false) {
    if (!this.grid.clientWidth) return;
    const columns = this.columns();
    const pitch = this.pitch();
    const rows = Math.ceil(this.cards.length / columns);
    this.grid.style.height = `${Math.max(0, rows * pitch - GalleryView.GAP)}px`;
    const top = -this.grid.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor((top - GalleryView.BEYOND) / pitch)) * columns;
    const last = Math.min(this.cards.length, Math.ceil((top + innerHeight + GalleryView.BEYOND) / pitch) * columns);
    const kept = new Set();
    for (let index = first; index < last; index += 1) kept.add(this.place(index, columns, pitch, anew));
    const focused = document.activeElement?.closest?.(".shot");
    for (const [id, node] of this.nodes) {
      if (kept.has(id) || (node === focused && this.cards[this.at]?.id === id)) continue;
      node.remove();
      this.nodes.delete(id);
    }
    if (last > this.cards.length - columns * 4) this.more();
  }

  place(index, columns, pitch, anew) {
    const card = this.cards[index];
    const known = this.nodes.get(card.id);
    const node = known ?? this.shot(card);
    if (!known) { this.nodes.set(card.id, node); this.grid.append(node); }
    if (!known || anew) this.dress(node, card, index);
    const side = pitch - GalleryView.GAP;
    const style = `width:${side}px;height:${side}px;transform:translate(${(index % columns) * pitch}px,${Math.floor(index / columns) * pitch}px)`;
    if (node.style.cssText !== style) node.style.cssText = style;
    return card.id;
  }

  shot(card) {
    const make = easel.make;
    const image = make("img", { alt: "", draggable: "false", decoding: "async" });
    image.addEventListener("error", () => image.parentNode?.classList.add("missing"));
    image.src = this.thumbnail(card);
    return make("div", { class: "shot", role: "option", id: `shot_${card.id}`, draggable: "true", "data-id": card.id },
      image, make("span", { class: "tick", "aria-hidden": "true" }), make("span", { class: "star", "aria-hidden": "true" }));
  }

  dress(node, card, index) {
    node.setAttribute("aria-label", this.label(card));
    node.title = card.words.slice(0, 200) || card.name;
    node.setAttribute("aria-selected", String(this.chosen.has(card.id)));
    node.setAttribute("aria-posinset", index + 1);
    node.setAttribute("aria-setsize", this.total ?? -1);
    node.tabIndex = index === this.at ? 0 : -1;
    node.classList.toggle("favourite", card.favourite);
    node.classList.toggle("missing", card.missing);
  }

  redress() {
    this.cards.forEach((card, index) => { const node = this.nodes.get(card.id); if (node) this.dress(node, card, index); });
    this.root.classList.toggle("choosing", this.chosen.size > 0);
    this.choice.show();
  }

  // --- Choosing and moving ------------------------------------------------------------------------------------------------

  indexOf(node) { const id = Number(node.dataset.id); return this.cards.findIndex((card) => card.id === id); }
  chosenCards() { return this.cards.filter((card) => this.chosen.has(card.id)); }

  choose(ids) {
    this.chosen = new Set(ids);
    this.redress();
  }

  toggle(index) {
    const { id } = this.cards[index];
    if (!this.chosen.delete(id)) this.chosen.add(id);
    this.at = this.from = index;
    this.redress();
  }

  reach(index) { // from where the last choice began to here
    const [low, high] = [Math.min(this.from, index), Math.max(this.from, index)];
    for (const card of this.cards.slice(low, high + 1)) this.chosen.add(card.id);
    this.at = index;
    this.redress();
  }

  focus(index, choosing = false) {
    if (!this.cards.length) return;
    const here = Math.max(0, Math.min(this.cards.length - 1, index));
    if (choosing) this.reach(here);
    else this.from = here;
    this.at = here;
    const top = Math.floor(here / this.columns()) * this.pitch() + this.grid.getBoundingClientRect().top;
    const head = this.root.querySelector(".head").getBoundingClientRect().bottom;
    if (top < head) window.scrollBy(0, top - head - GalleryView.GAP);
    else if (top + this.pitch() > innerHeight) window.scrollBy(0, top + this.pitch() - innerHeight);
    this.draw();
    this.redress();
    this.nodes.get(this.cards[here].id)?.focus({ preventScroll: true });
  }

  watchGrid() {
    this.grid.addEventListener("click", (event) => {
      const node = event.target.closest(".shot");
      if (!node) return;
      const index = this.indexOf(node);
      const touched = event.pointerType === "touch" && this.chosen.size;
      if (event.target.closest(".star")) this.favourite([this.cards[index]]);
      else if (event.shiftKey) this.reach(index);
      else if (event.ctrlKey || event.metaKey || touched || event.target.closest(".tick")) this.toggle(index);
      else this.open(index);
      if (event.shiftKey) getSelection().removeAllRanges();
    });
    this.grid.addEventListener("dragstart", (event) => {
      const card = this.cards[this.indexOf(event.target.closest(".shot"))];
      event.dataTransfer.setData("text/uri-list", this.address(card));
      event.dataTransfer.effectAllowed = "copy";
    });
    this.grid.addEventListener("focusin", (event) => { this.at = Math.max(0, this.indexOf(event.target.closest(".shot"))); });
    this.grid.addEventListener("keydown", (event) => this.pressed(event));
  }

  pressed(event) {
    const columns = this.columns();
    const rows = Math.max(1, Math.floor(innerHeight / this.pitch()) - 1);
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, PageDown: rows * columns, PageUp: -rows * columns,
      Home: -this.cards.length, End: this.cards.length };
    const card = this.cards[this.at];
    if (!card || event.altKey || event.isComposing) return;
    const held = event.ctrlKey || event.metaKey;
    if (event.key in steps) this.focus(this.at + steps[event.key], event.shiftKey);
    else if (event.key === "Enter" && !held) this.open(this.at);
    else if (event.key === " ") this.toggle(this.at);
    else if (held && event.key.toLowerCase() === "a") this.choose(this.cards.map((each) => each.id));
    else if (event.key === "Escape" && this.chosen.size) this.choose([]);
    else if (event.key === "Delete") this.trash(this.chosen.size ? this.chosenCards() : [card]);
    else if (event.key === "." && !held) this.favourite(this.chosen.size ? this.chosenCards() : [card]);
    else if (event.key === "s" && !held) easel.saveFile(this.address(card), easel.fileName(card));
    else return;
    event.preventDefault();
  }

  open(index) { this.at = this.from = index; this.redress(); easel.showPicture(this, this.cards[index]); }

  // --- Changing: the page follows at once, the server is told; what it refuses is told here --------------------------------

  async order(word, cards, more = {}) {
    const body = JSON.stringify({ ids: cards.map((card) => card.id), ...more });
    return easel.request(`internal/gallery/${word}?client=${easel.client}`, { method: "POST", headers: { "Content-Type": "application/json" }, body });
  }

  async try(act) {
    try {
      await act();
    } catch (error) {
      easel.toast(error.message);
      await this.arrive();
    }
  }

  favourite(cards) {
    const favourite = !cards.every((card) => card.favourite);
    for (const card of cards) card.favourite = favourite;
    this.redress();
    return this.try(() => this.order("change", cards, { favourite }));
  }

  tag(cards, add, remove = []) {
    return this.try(async () => { await this.order("change", cards, { add_tags: add, remove_tags: remove }); await this.arrive(); });
  }

  without(cards) {
    const gone = new Set(cards.map((card) => card.id));
    const had = this.grid.contains(document.activeElement);
    this.cards = this.cards.filter((card) => !gone.has(card.id));
    for (const id of gone) this.chosen.delete(id);
    if (this.total !== null) this.total -= gone.size;
    this.at = this.from = Math.max(0, Math.min(this.at, this.cards.length - 1));
    this.draw(true);
    this.redress();
    this.tell();
    if (had) this.focus(this.at);
  }

  trash(cards) {
    if (this.inTrash) return this.remove(cards);
    return this.try(async () => {
      const missing = cards.filter((card) => card.missing);
      const there = cards.filter((card) => !card.missing);
      if (there.length) await this.order("trash", there);
      if (missing.length) await this.order("forget", missing);
      this.without(cards);
      const said = there.length === 1 ? "The picture is in the trash." : `${there.length} pictures are in the trash.`;
      if (there.length) easel.toast(said, { label: "Undo", act: () => this.restore(there) });
      else easel.toast("Forgotten: the file was gone already.");
    });
  }

  restore(cards) {
    return this.try(async () => {
      await this.order("restore", cards);
      if (this.inTrash) this.without(cards);
      await this.arrive();
    });
  }

  async remove(cards) {
    const many = cards.length === 1 ? "this picture" : `these ${cards.length} pictures`;
    if (!await easel.confirm(`Delete ${many} for ever?`, "Delete")) return;
    await this.try(async () => { await this.order("delete", cards); this.without(cards); });
  }

  async emptyTrash() {
    if (!await easel.confirm("Delete everything in the trash for ever?", "Delete")) return;
    await this.try(async () => { await easel.request(`internal/gallery/empty-trash?client=${easel.client}`, { method: "POST" }); await this.restart(); });
  }

  lookAgain() {
    return this.try(async () => {
      await easel.request(`internal/gallery/look-again?client=${easel.client}`, { method: "POST" });
      easel.toast("Looking for picture files that the gallery does not know yet.");
    });
  }
}

easel.fileName = (card) => `easel-${card.id}-${card.seed}${card.ending}`;
easel.saveFile = (address, name) => easel.make("a", { href: address, download: name }).click();
easel.galleryView = (root) => { easel.gallery = new GalleryView(root); };
