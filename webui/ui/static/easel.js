// The page's own script: who we are, the socket to the server, keys, drops. Views register themselves by tab name.
const easel = {
  triggers: {}, // bridge name -> Gradio's trigger function
  results: {}, // tab -> ResultView
  canvases: {}, // tab -> CanvasView
  inspector: null,
  status: null,
  dialogs: [], // of easel.dialog, the topmost last
  connected: false,
};

easel.url = (path) => new URL(path, document.baseURI).href;

easel.randomId = () => {
  const bytes = crypto.getRandomValues(new Uint8Array(16)); // randomUUID is missing on plain http beyond localhost
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
};

easel.stored = (key, fallback) => {
  try {
    return JSON.parse(localStorage.getItem(`easel_${key}`)) ?? fallback;
  } catch {
    return fallback;
  }
};

easel.store = (key, value) => {
  try {
    localStorage.setItem(`easel_${key}`, JSON.stringify(value));
  } catch { /* private windows may refuse: then nothing is remembered */ }
};

easel.client = easel.stored("client", null) ?? easel.randomId();
easel.store("client", easel.client);

easel.make = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
};

easel.iconButton = (icon, label, onclick, text = "") => {
  const button = easel.make("button", { type: "button", class: `tool ${icon}`, title: label, "aria-label": label, onclick });
  button.append(easel.make("i", { "aria-hidden": "true" }), text);
  return button;
};

easel.sentence = (text) => text.replace(/^[a-z](?=[a-z']*[\s,:;])/, (letter) => letter.toUpperCase()); // names of files stay as they are

// action: { label, act } of a button, by which what was done can be undone for a while.
easel.toast = (text, action = null) => {
  const box = document.getElementById("easel_toasts")
    ?? easel.make("div", { id: "easel_toasts", role: "status" });
  const place = easel.dialogs.at(-1) ?? document.body; // what lies behind a dialog can be neither seen nor clicked
  if (box.parentNode !== place) place.append(box);
  const note = easel.make("div", { class: "note" }, easel.sentence(text));
  if (action) note.append(easel.make("button", { type: "button", class: "act", onclick: () => { note.remove(); action.act(); } }, action.label));
  box.append(note);
  setTimeout(() => note.remove(), action ? 15000 : 8000);
};

// --- Bridges to Python -------------------------------------------------------------------------------------------------

easel.bridge = (name, trigger) => { easel.triggers[name] = trigger; };
easel.told = (value) => {
  if (value?.started) easel.started = true; // the fields show this visit's values, no longer those that the page was built with
  else if (value?.started === false) easel.fire(easel.generators[0], "rest", easel.drafts());
  for (const sentence of value?.say ?? []) easel.toast(sentence);
  if (value?.edited) easel.queue.edited();
  if (easel.ready) easel.lookAtDrafts();
  if (value?.overrides) easel.overrides.set(value.overrides.tab, value.overrides.values);
};
easel.fire = (name, event, data) => easel.triggers[name]?.(event, data);
easel.generators = ["txt2img", "img2img", "outpaint"];

// --- Tabs: all are in the page from the start, so that pictures and parameters can be sent to each ----------------------

easel.tabNames = {
  txt2img: "txt2img", img2img: "img2img", outpaint: "Outpaint", extras: "Extras", png_info: "PNG info", gallery: "Gallery", queue: "Queue",
  xray: "X-ray", train: "Train", merger: "Models", settings: "Settings",
};
easel.currentTab = () => document.documentElement.dataset.tab;

easel.openTab = (tab) => {
  document.documentElement.dataset.tab = tab;
  easel.store("tab", tab);
  easel.queue?.refresh();
  for (const button of document.querySelectorAll("#tabs [role=tab]")) {
    const chosen = button.dataset.tab === tab;
    button.setAttribute("aria-selected", String(chosen));
    button.tabIndex = chosen ? 0 : -1;
    if (chosen) button.scrollIntoView({ block: "nearest", inline: "nearest" });
  }
  document.dispatchEvent(new Event("easel:tab"));
};

easel.stepTab = (step) => {
  const names = Object.keys(easel.tabNames);
  easel.openTab(names[(names.indexOf(easel.currentTab()) + step + names.length) % names.length]);
};

easel.tabsView = (root) => {
  root.setAttribute("role", "tablist");
  root.setAttribute("aria-label", "Tabs");
  for (const tab of Object.keys(easel.tabNames)) {
    root.append(easel.make("button", { type: "button", role: "tab", id: `open_${tab}`, "data-tab": tab, "aria-controls": `tab_${tab}`,
      onclick: () => easel.openTab(tab) }, easel.tabNames[tab]));
    const panel = document.getElementById(`tab_${tab}`);
    panel?.setAttribute("role", "tabpanel");
    panel?.setAttribute("aria-labelledby", `open_${tab}`);
  }
  root.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step || event.altKey || event.ctrlKey) return;
    easel.stepTab(step);
    root.querySelector("[aria-selected=true]").focus();
  });
  easel.openTab(easel.currentTab());
};

// --- What Generate sends ----------------------------------------------------------------------------------------------

easel.answers = () => easel.request("internal/ping").then(() => true, (error) => { easel.toast(error.message); return false; });

// What Generate sends beside the widgets: who asks, and the pictures by hash. It replaces the bridge's own value, the first.
easel.collect = async (tab, values) => {
  const sent = { client: easel.client, edits: easel.queue?.takePutBack(), overrides: easel.overrides.of(tab), record: easel.xray?.recordsNew() };
  easel.prompt.remember(tab);
  if (!easel.connected && !await easel.answers()) return new Promise(() => {}); // never sent: Gradio would load the page anew
  const canvas = easel.canvases[tab];
  try {
    if (canvas) Object.assign(sent, await canvas.collect());
  } catch (error) {
    sent.problem = error.message;
  }
  return [sent, ...values.slice(1)];
};

// --- Talking to the server ---------------------------------------------------------------------------------------------

easel.request = async (path, options = {}) => {
  let answer;
  try {
    answer = await fetch(easel.url(path), options);
  } catch {
    throw new Error("The server does not answer; is it still running?");
  }
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    throw new Error(told.errors ?? `The server answered with status ${answer.status}.`);
  }
  return answer;
};

easel.sendFile = async (path, file) => {
  const form = new FormData();
  form.append("file", file, file.name ?? "picture.png");
  return (await easel.request(path, { method: "POST", body: form })).json();
};

easel.jobCommand = async (tab, command) => {
  const job = easel.results[tab]?.current();
  if (!job) return;
  try {
    await easel.request(`internal/jobs/${job.id}/${command}?client=${easel.client}`, { method: "POST" });
  } catch (error) {
    easel.toast(error.message);
  }
};
easel.interrupt = (tab) => { easel.jobCommand(tab, "interrupt"); };
easel.skip = (tab) => { easel.jobCommand(tab, "skip"); };

easel.connect = () => {
  const address = new URL(`internal/ws/${easel.client}`, document.baseURI);
  address.protocol = address.protocol.replace("http", "ws");
  const socket = new WebSocket(address);
  easel.socket = socket;
  socket.onopen = () => { easel.retry = 250; easel.setConnected(true); };
  socket.onmessage = (message) => {
    const told = JSON.parse(message.data);
    if (told.worker !== undefined) easel.setWorker(told.worker);
    if (told.gallery !== undefined) easel.gallery.changed(told.gallery);
    if (told.status) easel.setStatus(told.status);
    for (const job of told.jobs ?? []) {
      easel.results[job.tab]?.update(job, Boolean(told.hello));
      if (job.xray && job.tab !== "xray") easel.xray?.update(job, Boolean(told.hello));
    }
    if (told.reach) easel.setReach(told.reach);
    for (const loss of told.losses ?? []) easel.tellLoss(loss);
    if (told.hello) for (const view of Object.values(easel.results)) view.forget(told.active);
    easel.showTitle();
    easel.queue?.hear(told);
  };
  socket.onclose = () => {
    easel.setConnected(false);
    easel.retry = Math.min((easel.retry ?? 250) * 2, 4000);
    setTimeout(easel.connect, easel.retry);
  };
};

// A sentence about something that was lost: at each visit until it is closed.
easel.tellLoss = (sentence) => {
  const closed = easel.stored("losses", []);
  if (!closed.includes(sentence)) easel.toast(sentence, { label: "Close", act: () => easel.store("losses", [...closed, sentence].slice(-20)) });
};

easel.showTitle = () => {
  const running = Object.values(easel.results).map((view) => view.current()).find((job) => job && job.status !== "queued");
  document.title = running ? `[${Math.round(running.fraction * 100)}%] Easel` : "Easel";
};

// --- The corner of the top row: light or dark ---------------------------------------------------------------------------

easel.cornerView = (root) => {
  root.append(easel.iconButton("theme", "Light or dark", () => easel.setTheme(easel.isDark() ? "light" : "dark")), easel.habits.levelButton(), easel.language.button());
};

easel.isDark = () => document.body.classList.contains("dark");
easel.setTheme = (theme) => { easel.store("theme", theme); easel.applyTheme(theme); };
easel.applyTheme = (theme) => {
  document.body.classList.toggle("dark", theme === "dark");
  document.documentElement.style.colorScheme = theme;
};

// --- Scripts: the chosen one shows its widgets; an axis with known values shows them as a list --------------------------

easel.showScript = (panels, title) => {
  for (const [name, id] of Object.entries(panels)) document.getElementById(id)?.classList.toggle("chosen", name === title);
};
// The text of a file that the user chooses; `now` where none is chosen.
easel.textOfFile = (now) => new Promise((resolve) => {
  const input = easel.make("input", { type: "file", accept: ".txt,.csv,text/*" });
  input.addEventListener("change", async () => resolve(input.files[0] ? await input.files[0].text() : now));
  input.addEventListener("cancel", () => resolve(now));
  input.click();
});
easel.showAxes = (rows, listed, now) => {
  const asText = now[rows.length];
  rows.forEach((id, i) => {
    const row = document.getElementById(id)?.classList;
    row?.toggle("listed", listed.includes(now[i]) && !asText);
    row?.toggle("known", listed.includes(now[i]));
    row?.toggle("idle", now[i] === "Nothing");
  });
};

// --- Sending pictures and parameters between tabs ----------------------------------------------------------------------

// `text`: infotext or ""; `source`: address or File of the picture; `target`: a tab's name or "inpaint" or "png_info".
// `without`: rows of PNG info that shall not count.
easel.sendTo = async (target, text, source, without = []) => {
  if (target === "png_info") {
    easel.openTab("png_info");
    return easel.inspector.load(source);
  }
  if (target === "extras") {
    easel.openTab("extras");
    return easel.extras.load(source);
  }
  const tab = target === "inpaint" ? "img2img" : target;
  easel.openTab(tab);
  if (text) easel.fire(tab, "fill", { text, without });
  if (tab !== "txt2img" && source) {
    if (tab === "img2img") easel.pressMode(target === "inpaint" ? 2 : 0);
    await easel.canvases[tab]?.load(source, Boolean(text));
  }
};

easel.pressMode = (index) => document.querySelectorAll("#img2img_mode input[type=radio]")[index]?.click();
easel.setMode = (mode) => { easel.canvases.img2img?.setMode(mode); };
easel.setSides = (sides) => { easel.canvases.outpaint?.setSides(sides); };
easel.reuseSeed = (tab, seed) => easel.results[tab]?.shown?.seed ?? seed;
easel.pictureSize = (tab, now) => easel.canvases[tab]?.size() ?? now;

easel.paste = (tab) => {
  const typed = document.querySelector(`#${tab}_prompt textarea`).value;
  easel.fire(tab, "fill", { text: typed.trim() ? typed : easel.results[tab]?.lastInfotext() ?? "" });
};

// --- Drops: on a prompt the parameters are read, on a canvas the picture is taken, on PNG info it is inspected ---------

easel.dropTarget = (event) => {
  const kinds = Array.from(event.dataTransfer?.types ?? []);
  if (!kinds.includes("Files") && !kinds.includes("text/uri-list")) return null;
  const canvas = event.target.closest?.(".canvas");
  if (canvas) return { node: canvas, take: (file) => easel.canvases[canvas.dataset.tab].take(file), takeAll: easel.canvases[canvas.dataset.tab].batch && easel.takeAll };
  const inspector = event.target.closest?.("#pnginfo_panel");
  if (inspector) return { node: inspector, take: (file) => easel.inspector.load(file) };
  const tab = easel.currentTab();
  if (tab === "extras") return { node: easel.extras.drop, take: (file) => easel.extras.load(file), takeAll: (files) => easel.extras.addAll(files) };
  if (tab === "train") return { node: document.getElementById("train_drop"), take: (file) => easel.results.train.add([file]), takeAll: (files) => easel.results.train.add(files) };
  if (tab === "png_info") return { node: document.getElementById("pnginfo_panel"), take: (file) => easel.inspector.load(file) };
  if (tab === "xray") return { node: document.getElementById("xray_panel"), take: (file) => easel.xray.take(file) };
  if (!easel.generators.includes(tab)) return null;
  return { node: document.getElementById(`${tab}_prompt`), take: (file) => easel.readInto(tab, file) };
};

easel.droppedFile = async (transfer) => {
  if (transfer.files.length) return transfer.files[0];
  const address = new URL(transfer.getData("text/uri-list").split("\n")[0], document.baseURI);
  if (address.origin !== location.origin) throw new Error("Pictures of other sites cannot be read; save the file and drop that.");
  return (await fetch(address)).blob();
};

easel.takeAll = async (files) => {
  easel.pressMode(4);
  await easel.canvases.img2img.batch.add(files);
};

easel.readInto = async (tab, file) => {
  const found = await easel.sendFile("internal/png-info", file);
  if (!found.text) easel.toast("This picture carries no generation parameters.");
  else easel.fire(tab, "fill", { text: found.text });
};

easel.watchDrops = () => {
  let marked = null;
  const mark = (node) => {
    marked?.classList.remove("drop-here");
    marked = node;
    node?.classList.add("drop-here");
  };
  const over = (event) => {
    const target = easel.dropTarget(event);
    if (!target) return;
    event.preventDefault();
    event.stopPropagation();
    mark(target.node);
  };
  document.addEventListener("dragenter", over, true);
  document.addEventListener("dragover", over, true);
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) mark(null); }, true);
  document.addEventListener("dragend", () => mark(null), true);
  document.addEventListener("drop", async (event) => {
    const target = easel.dropTarget(event);
    mark(null);
    if (!target) return;
    event.preventDefault();
    event.stopPropagation();
    try {
      const files = Array.from(event.dataTransfer.files);
      await (target.takeAll && files.length > 1 ? target.takeAll(files) : target.take(await easel.droppedFile(event.dataTransfer)));
    } catch (error) {
      easel.toast(error.message);
    }
  }, true);
};

// --- Buttons and open lists, for the key map ----------------------------------------------------------------------------

easel.press = (tab, action) => document.getElementById(`${tab}_${action}`)?.click();

// A dialog or a list of choices, which Esc closes.
easel.somethingIsOpen = () => Array.from(document.querySelectorAll("dialog[open], [role=listbox]")).some((node) => node.checkVisibility());

// --- Start -------------------------------------------------------------------------------------------------------------

// What a button of Gradio's that shows only an icon does, when the mouse comes to it: Gradio draws its buttons late, and anew.
easel.nameIcons = () => document.addEventListener("mouseover", (event) => {
  const button = event.target.closest?.("button.icon");
  if (button) button.title = button.textContent.trim();
});

easel.whenStarted = (since, act) => {
  if (easel.started || Date.now() - since > 15000) setTimeout(act, 50); // when Gradio has drawn it
  else setTimeout(() => easel.whenStarted(since, act), 20);
};

easel.start = (flagTheme) => {
  document.documentElement.dataset.tab = easel.stored("tab", null) in easel.tabNames ? easel.stored("tab", null) : "txt2img";
  easel.watchDrops();
  easel.keys.watch();
  easel.prompt.watch();
  easel.language.watch();
  easel.habits.watch();
  easel.watchTouches();
  easel.habits.searchLists();
  easel.habits.keepTyped();
  easel.watchPrompts();
  easel.watchDrafts();
  easel.nameIcons();
  const usual = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const wait = setInterval(() => {
    if (!document.body) return;
    easel.applyTheme(easel.stored("theme", null) ?? (flagTheme || usual));
    const views = Object.keys(easel.results).length + Object.keys(easel.canvases).length;
    if (views < 8 || !easel.extras || !easel.inspector || !easel.gallery || !easel.status || !easel.queue) return;
    clearInterval(wait);
    easel.showSlots(1);
    easel.connect();
    easel.whenStarted(Date.now(), () => { easel.ready = true; easel.beginDrafts(); document.documentElement.dataset.easel = "ready"; });
  }, 20);
};
