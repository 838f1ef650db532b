// The Settings tab. A change is set at once; sets of changes (a file, A1111's config.json, a preset) are shown before they are made.
class SettingsView {
  constructor(root) {
    const make = easel.make;
    this.search = make("input", { type: "search", id: "settings_search", placeholder: "Search settings", "aria-label": "Search settings", oninput: () => this.filter() });
    this.changedOnly = make("input", { type: "checkbox", id: "settings_changed", onchange: () => this.filter() });
    this.count = make("span", { class: "count", role: "status" });
    this.presets = make("select", { id: "settings_presets", "aria-label": "Presets", translate: "no" });
    this.file = make("input", { type: "file", class: "file", id: "settings_file", accept: ".json,application/json", "aria-label": "Open a file of settings", onchange: () => this.attempt(() => this.open()) });
    const tool = (icon, label, act, text) => easel.iconButton(icon, label, () => this.attempt(act), text);
    this.bar = make("div", { class: "bar-row" }, this.search,
      make("label", { class: "only" }, this.changedOnly, make("span", {}, "Only changed ones")), this.count);
    this.applyButton = tool("redo", "Look at what this preset changes, then apply it", () => this.applyPreset(), "Apply preset");
    this.removeButton = tool("bin", "Remove this preset", () => this.removePreset(), "Remove preset");
    this.tools = make("div", { class: "bar-row" }, this.presets, this.applyButton, this.removeButton,
      tool("copy", "Keep the settings as a preset", () => this.keepPreset(), "Keep as preset"),
      make("a", { class: "tool download", id: "settings_export", href: easel.url("internal/settings/file"), download: "easel-settings.json", title: "Save the changed settings as a file" },
        make("i", { "aria-hidden": "true" }), "Export"),
      make("label", { class: "tool", title: "A file of Easel's, or config.json of AUTOMATIC1111's web UI" }, this.file, "Import"));
    this.list = make("div", { class: "list" });
    this.nothing = make("p", { class: "small", role: "status", hidden: true }, "No setting fits.");
    root.append(this.bar, this.tools, this.list, this.nothing);
    document.addEventListener("easel:tab", () => { if (easel.currentTab() === "settings") this.attempt(() => this.load()); });
    document.addEventListener("easel:language", () => this.filter());
    if (easel.currentTab() === "settings") this.attempt(() => this.load());
  }

  attempt(act) { Promise.resolve().then(act).catch((error) => easel.toast(error.message)); }

  ask(path, body, method = "POST") {
    return easel.request(`internal/settings${path}`, { method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) }).then((answer) => answer.json());
  }

  async load() {
    const told = await (await easel.request("internal/settings")).json();
    this.presets.replaceChildren(...told.presets.map((name) => easel.make("option", { value: name }, name)));
    for (const node of [this.presets, this.applyButton, this.removeButton]) node.hidden = !told.presets.length;
    this.rows = [];
    const sections = Object.entries(told.sections).map(([title, rows]) => this.section(title, rows.map((row) => this.row(row))));
    this.list.replaceChildren(this.section("This browser", this.browserRows()), ...sections, this.section("Keys", this.keyRows()));
    this.filter();
  }

  section(title, rows) {
    return easel.make("section", { class: "group" }, easel.make("h3", {}, title), ...rows);
  }

  // One line of the table. `reset` brings the usual value back, `isChanged` tells whether there is need to.
  line(name, sentence, control, reset, isChanged) {
    control.id ||= `pref_${name}`;
    const label = easel.make("label", { for: control.id }, easel.make("span", { class: "sentence" }, sentence), name ? easel.make("code", {}, name) : "");
    const back = easel.iconButton("undo", "Back to the default", () => this.attempt(async () => { await reset(); mark(); }));
    const node = easel.make("div", { class: "line" }, label, control, back);
    const mark = () => { node.classList.toggle("changed", isChanged()); this.filter(); };
    node.classList.toggle("changed", isChanged());
    this.rows.push({ node, words: `${name} ${sentence}`.toLowerCase(), sentence, choices: Array.from(control.options ?? [], (option) => option.textContent) });
    return { node, mark };
  }

  row(row) {
    const control = this.control(row);
    const isTruth = typeof row.default === "boolean";
    const shown = () => (isTruth ? control.checked : control.value);
    const show = (value) => { if (isTruth) control.checked = value; else control.value = value; };
    const now = { value: row.value };
    show(row.value);
    const { node, mark } = this.line(row.name, row.sentence, control, () => set(row.default), () => now.value !== row.default);
    const set = async (value) => {
      try {
        await this.ask("", { values: { [row.name]: value } });
        now.value = typeof row.default === "number" ? Number(value) : value;
        show(now.value);
        node.classList.remove("refused");
      } catch (error) {
        node.classList.add("refused");
        throw error;
      }
    };
    control.addEventListener("change", () => this.attempt(async () => { await set(shown()); mark(); }));
    return node;
  }

  control(row) {
    const make = easel.make;
    if (typeof row.default === "boolean") return make("input", { type: "checkbox" });
    if (row.choices) return make("select", {}, ...row.choices.map((choice) => make("option", { value: choice }, choice || (row.name.startsWith("text_encoder") ? "None" : "Automatic"))));
    if (typeof row.default === "number") {
      return make("input", { type: "number", step: Number.isInteger(row.default) && row.maximum !== 1 ? 1 : "any", min: row.minimum ?? undefined, max: row.maximum ?? undefined });
    }
    return make("input", { type: "text", maxlength: 1000 });
  }

  // What belongs to this browser alone.
  browserRows() {
    const make = easel.make;
    const select = (id, choices, value, set) => {
      const node = make("select", { id, translate: id === "pref_language" ? "no" : undefined }, ...choices.map(([key, text]) => make("option", { value: key }, text)));
      node.value = value;
      node.addEventListener("change", () => { set(node.value); mark(); });
      return node;
    };
    let mark = () => this.filter();
    const stored = (name, usual, choices, sentence, apply = () => {}) => {
      const set = (value) => { easel.store(name, value); apply(value); };
      const kept = easel.stored(name, usual);
      const control = select(`pref_${name}`, choices, choices.some(([key]) => key === kept) ? kept : usual, set);
      return this.line("", sentence, control, () => { control.value = usual; set(usual); }, () => control.value !== usual).node;
    };
    const usualLanguage = /^zh/i.test(navigator.language) ? "zh-CN" : "en";
    return [
      stored("language", usualLanguage, Object.entries(easel.language.NAMES), "Language", easel.language.set),
      stored("theme", easel.isDark() ? "dark" : "light", [["light", "Light"], ["dark", "Dark"]], "Colours", easel.applyTheme),
      stored("while_running", "queue", [["queue", "Queue another job"], ["restart", "Interrupt, then begin anew"]], "What Ctrl+Enter does while a job runs"),
      stored("at_end", "nothing", [["nothing", "Nothing"], ["sound", "A sound"], ["notice", "A notice of the system"]], "When a job has ended and the page is not looked at", easel.habits.askForNotices),
      stored("quick", "clip_skip", [["clip_skip", "Checkpoint, VAE, CLIP skip"], ["vae", "Checkpoint, VAE"], ["no_vae", "Checkpoint, CLIP skip"], ["checkpoint", "Checkpoint"]], "In the top row", easel.habits.showQuick),
    ];
  }

  keyRows() {
    const rows = Object.entries(easel.keys.ACTIONS).map(([name, [usual, what]]) => {
      const button = easel.make("button", { type: "button", class: "tool key", id: `key_${name}`, title: "Press to choose other keys" }, easel.keys.map()[name]);
      const show = () => { button.textContent = easel.keys.map()[name]; };
      const { node, mark } = this.line("", what, button, () => { easel.keys.set(name, null); show(); }, () => easel.keys.map()[name] !== usual);
      button.addEventListener("click", () => this.attempt(async () => {
        button.textContent = "Press keys";
        const combo = await easel.keys.next();
        const taken = combo && easel.keys.taken(name, combo);
        if (taken) easel.toast(`${combo} is taken already: ${easel.t(easel.keys.ACTIONS[taken][1])}`);
        else if (combo) easel.keys.set(name, combo);
        show();
        mark();
      }));
      return node;
    });
    return [...rows, ...easel.keys.FIXED.map(([combo, what]) => {
      const node = easel.make("div", { class: "line fixed" }, easel.make("span", { class: "sentence" }, what), easel.make("kbd", {}, combo));
      this.rows.push({ node, words: `${combo} ${what}`.toLowerCase(), sentence: what });
      return node;
    })];
  }

  filter() {
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const all = this.rows ?? [];
    for (const { node, words: own, sentence, choices = [] } of all) {
      const text = [own, ...[sentence, ...choices].map(easel.t), ...choices].join(" ").toLowerCase();
      node.hidden = !words.every((word) => text.includes(word)) || (this.changedOnly.checked && !node.classList.contains("changed"));
    }
    for (const group of this.list.children) group.hidden = !group.querySelector(".line:not([hidden])");
    this.nothing.hidden = !all.length || all.some(({ node }) => !node.hidden);
    const changed = all.filter(({ node }) => node.classList.contains("changed")).length;
    this.count.textContent = changed ? `${changed} changed` : "";
  }

  // --- Sets of changes ---------------------------------------------------------------------------------------------------

  async open() {
    const file = this.file.files[0];
    this.file.value = "";
    if (!file) return;
    let values;
    try {
      values = JSON.parse(await file.text());
    } catch {
      throw new Error("This file holds no settings: it is not JSON.");
    }
    if (typeof values !== "object" || values === null || Array.isArray(values)) throw new Error("This file holds no settings: names and values are missing.");
    await this.review(await this.ask("/compare", { values }), file.name);
  }

  async applyPreset() {
    if (this.presets.value) await this.review(await this.ask("/compare", { preset: this.presets.value }), this.presets.value);
  }

  async keepPreset() {
    const name = await easel.askFor("Name of the preset", this.presets.value);
    if (!name) return;
    await this.ask(`/presets/${encodeURIComponent(name)}`, {}, "PUT");
    await this.load();
    this.presets.value = name.trim();
    easel.toast("The preset is kept.");
  }

  async removePreset() {
    if (!this.presets.value) return;
    await this.ask(`/presets/${encodeURIComponent(this.presets.value)}`, {}, "DELETE");
    await this.load();
  }

  async review(told, title) {
    const make = easel.make;
    const changes = Object.entries(told.changes);
    const boxes = changes.map(([name]) => make("input", { type: "checkbox", checked: true, "aria-label": name }));
    const text = (value) => (value === "" ? "–" : String(value));
    const rows = changes.map(([name, [now, then]], i) => make("tr", { translate: "no" }, make("td", {}, boxes[i]), make("td", {}, make("code", {}, name)), make("td", {}, text(now)), make("td", {}, text(then))));
    const table = make("table", { class: "fields" }, make("thead", {}, make("tr", {}, make("th", {}, ""), make("th", {}, "Setting"), make("th", {}, "Now"), make("th", {}, "Then"))), make("tbody", {}, ...rows));
    const notes = [
      ...Object.entries(told.wrong).map(([, sentence]) => easel.sentence(sentence)),
      changes.length ? "" : "Nothing would change.",
    ].filter(Boolean);
    const dialog = make("dialog", { class: "review", "aria-label": "Changes of settings" },
      make("h3", { translate: "no" }, title), changes.length ? table : "", ...notes.map((note) => make("p", { class: "small" }, note)),
      told.unknown.length ? make("details", { class: "small" }, make("summary", {}, `${told.unknown.length} settings are not known to Easel and are left out.`), make("p", { translate: "no" }, told.unknown.join(", "))) : "",
      make("div", { class: "bar-row" },
        changes.length ? make("button", { type: "button", class: "tool apply", onclick: () => this.attempt(apply) }, "Apply") : "",
        make("button", { type: "button", class: "tool", onclick: () => dialog.close() }, "Close")));
    const apply = async () => {
      const values = Object.fromEntries(changes.filter((_, i) => boxes[i].checked).map(([name, [, then]]) => [name, then]));
      await this.ask("", { values });
      dialog.close();
      await this.load();
      easel.toast("The settings are set.");
    };
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
  }
}

easel.settingsView = (root) => { easel.settings = new SettingsView(root); };

// The next combination of keys that is pressed; null for Escape alone.
easel.keys.next = () => new Promise((resolve) => {
  easel.keys.asking = true;
  const listen = (event) => {
    if (["Control", "Alt", "Shift", "Meta"].includes(event.key)) return;
    event.preventDefault();
    event.stopPropagation();
    document.removeEventListener("keydown", listen, true);
    easel.keys.asking = false;
    resolve(event.key === "Escape" ? null : easel.keys.combo(event));
  };
  document.addEventListener("keydown", listen, true);
});

// A line of text from the user; null where none is given.
easel.askFor = (question, usual = "") => new Promise((resolve) => {
  const make = easel.make;
  const input = make("input", { type: "text", value: usual, maxlength: 80, "aria-label": question });
  const form = make("form", { method: "dialog" }, make("h3", {}, question), input,
    make("div", { class: "bar-row" }, make("button", { type: "submit", class: "tool apply" }, "Keep"), make("button", { type: "button", class: "tool", onclick: () => dialog.close() }, "Close")));
  const dialog = make("dialog", { class: "review", "aria-label": question }, form);
  let said = null;
  form.addEventListener("submit", () => { said = input.value.trim() || null; });
  dialog.addEventListener("close", () => { dialog.remove(); resolve(said); });
  document.body.append(dialog);
  dialog.showModal();
  input.select();
});
