// What the page does by the user's habits: what Ctrl+Enter does while a job runs, generating for ever, a sound or a notice at the end, the top row.
easel.habits = { forever: {} };

easel.habits.busy = (tab) => Boolean(easel.results[tab]?.current());

// Ctrl+Enter and the button: beside a job that runs, another is queued, or that one is interrupted first, as the settings say.
easel.habits.generate = (tab) => {
  if (easel.stored("while_running", "queue") === "restart" && easel.habits.busy(tab)) easel.interrupt(tab);
  easel.press(tab, "generate");
};

easel.habits.setForever = (tab, on) => {
  easel.habits.forever[tab] = on;
  document.getElementById(`${tab}_generate`)?.classList.toggle("forever", on);
  if (on) easel.toast("Generating for ever: the next job begins when one has ended. The menu of Generate ends it.");
  if (on && !easel.habits.busy(tab)) easel.press(tab, "generate");
};

// A job of this tab has ended; what failed or was interrupted is not done over and over.
easel.habits.ended = (tab, status) => {
  if (easel.habits.forever[tab]) {
    if (status === "done") setTimeout(() => { if (easel.habits.forever[tab] && !easel.habits.busy(tab)) easel.press(tab, "generate"); }, 100);
    else easel.habits.setForever(tab, false);
  }
  if (document.hidden || !document.hasFocus()) easel.habits.tell(status);
};

easel.habits.tell = (status) => {
  const how = easel.stored("at_end", "nothing");
  if (how === "sound") easel.habits.ring();
  if (how === "notice" && window.Notification?.permission === "granted") new Notification("Easel", { body: easel.t(`Job ${status}`) });
};

easel.habits.ring = () => {
  const context = new AudioContext();
  const gain = context.createGain();
  gain.connect(context.destination);
  gain.gain.setValueAtTime(0.15, context.currentTime);
  gain.gain.exponentialRampToValueAtTime(0.0001, context.currentTime + 0.8);
  for (const [pitch, at] of [[660, 0], [880, 0.15]]) {
    const tone = context.createOscillator();
    tone.frequency.value = pitch;
    tone.connect(gain);
    tone.start(context.currentTime + at);
    tone.stop(context.currentTime + 0.8);
  }
  setTimeout(() => context.close(), 1500);
};

easel.habits.askForNotices = (how) => {
  if (how !== "notice") return;
  if (!window.Notification || !isSecureContext) easel.toast("Browsers show notices of pages on this machine and on https only; a sound works everywhere.");
  else Notification.requestPermission().then((answer) => { if (answer !== "granted") easel.toast("The browser was told to show no notices of this page; its settings can allow them."); });
};

easel.habits.showQuick = (last) => { document.documentElement.dataset.quick = last; };

// A simple page hides what few pictures need; what is hidden keeps its values.
easel.habits.showLevel = (level) => { document.documentElement.dataset.level = level; };
easel.habits.levelButton = () => {
  const button = easel.iconButton("list", "Simple page: hide what few pictures need", () => {
    const simple = document.documentElement.dataset.level !== "simple";
    easel.store("level", simple ? "simple" : "full");
    easel.habits.showLevel(simple ? "simple" : "full");
    show();
    if (simple) easel.toast("What few pictures need is hidden; it keeps its values.");
  });
  button.id = "simple_page";
  const show = () => button.setAttribute("aria-pressed", String(document.documentElement.dataset.level === "simple"));
  show();
  return button;
};

// Shapes of pictures: each as large as the checkpoint is made for.
easel.shapesView = (root, tab) => {
  for (const [width, height] of [[1, 1], [4, 3], [3, 4], [3, 2], [2, 3], [16, 9], [9, 16]]) {
    const label = `Shape ${width}:${height}`;
    const box = easel.make("i", { "aria-hidden": "true", style: `width: ${Math.min(15, (15 * width) / height)}px; aspect-ratio: ${width} / ${height}` });
    root.append(easel.make("button", { type: "button", class: "tool shape", title: label, "aria-label": label, "data-shape": `${width}:${height}`,
      onclick: () => easel.fire(tab, "image", { width: width * 1000, height: height * 1000 }) }, box, `${width}:${height}`));
  }
};

// The menu of Generate: right click, or the keyboard's menu key.
easel.habits.menu = (tab, x, y) => {
  document.querySelector(".menu")?.remove();
  const on = Boolean(easel.habits.forever[tab]);
  const item = (text, act) => easel.make("button", { type: "button", role: "menuitem", onclick: () => { close(); act(); } }, text);
  const menu = easel.make("div", { class: "menu", role: "menu", "aria-label": "Generate" },
    item(on ? "Stop generating for ever" : "Generate for ever", () => easel.habits.setForever(tab, !on)),
    item("Generate once", () => easel.press(tab, "generate")));
  const close = () => { menu.remove(); document.removeEventListener("pointerdown", outside, true); };
  const outside = (event) => { if (!menu.contains(event.target)) close(); };
  menu.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const items = Array.from(menu.children);
    if (step) items[(items.indexOf(document.activeElement) + step + items.length) % items.length].focus();
    if (event.key === "Escape") { close(); document.getElementById(`${tab}_generate`)?.focus(); }
    event.stopPropagation();
  });
  document.addEventListener("pointerdown", outside, true);
  document.body.append(menu);
  menu.style.left = `${Math.min(x, innerWidth - menu.offsetWidth - 8)}px`;
  menu.style.top = `${Math.min(y, innerHeight - menu.offsetHeight - 8)}px`;
  menu.firstChild.focus();
};

// A part that is switched on in its header unfolds.
easel.habits.unfold = (event) => {
  const part = event.target.checked && event.target.closest(".switched > .form")?.parentNode;
  if (part) part.querySelector(":scope > .block > .label-wrap:not(.open)")?.click();
};

easel.habits.watch = () => {
  document.addEventListener("change", easel.habits.unfold);
  easel.habits.showQuick(easel.stored("quick", "clip_skip"));
  easel.habits.showLevel(easel.stored("level", "full"));
  document.addEventListener("contextmenu", (event) => {
    const button = event.target.closest?.(easel.generators.map((tab) => `#${tab}_generate`).join());
    if (!button) return;
    event.preventDefault();
    const box = button.getBoundingClientRect();
    easel.habits.menu(button.id.replace("_generate", ""), event.clientX || box.left, event.clientY || box.bottom);
  });
};

// A slider's ends are no limits: what was typed beside it, or came from an infotext, stays, where Gradio would cut it when one leaves the box.
easel.habits.keepTyped = () => document.addEventListener("blur", (event) => {
  if (event.target.matches?.("input[data-testid=number-input]")) event.stopPropagation();
}, true);

// A list's name is chosen whole when one clicks into it: what is typed then searches the list instead of growing the name.
easel.habits.searchLists = () => {
  let entered = null;
  document.addEventListener("focusin", (event) => { entered = event.target.matches?.("input[role=combobox]") ? event.target : null; });
  document.addEventListener("click", (event) => {
    if (event.target === entered && entered.selectionStart === entered.selectionEnd) entered.select();
    entered = null; // a second click sets the cursor
  });
};
