// The key map: what each combination does, where; the user may change it in the settings. Canvas and lightbox have keys of their own.
easel.keys = {};

// name -> [usual combination, what it does, where: "" anywhere on a tab that makes pictures, "prompt" in a prompt, "page" everywhere]
easel.keys.ACTIONS = {
  generate: ["Ctrl+Enter", "Generate", ""],
  skip: ["Alt+Enter", "Skip the picture in the making", ""],
  interrupt: ["Escape", "Interrupt", ""],
  weight_up: ["Ctrl+ArrowUp", "More weight for the word or the selection", "prompt"],
  weight_down: ["Ctrl+ArrowDown", "Less weight for the word or the selection", "prompt"],
  move_left: ["Alt+ArrowLeft", "Move the part between commas to the left", "prompt"],
  move_right: ["Alt+ArrowRight", "Move the part between commas to the right", "prompt"],
  older: ["Alt+ArrowUp", "The prompt generated before", "prompt"],
  newer: ["Alt+ArrowDown", "The prompt generated after", "prompt"],
  next_tab: ["Alt+PageDown", "Next tab", "page"],
  previous_tab: ["Alt+PageUp", "Previous tab", "page"],
};
// Keys that cannot be changed, for the list in the settings.
easel.keys.FIXED = [
  ["[ ]", "Size of the brush, on the canvas"], ["+ - 0", "Larger, smaller, fit, on the canvas"], ["V Space", "Move the picture, on the canvas"],
  ["Shift+V", "Invert the mask, on the canvas"], ["Ctrl+Z Ctrl+Y", "Undo and redo, on the canvas and in prompts"],
  ["← →", "Picture before and after, in the large view"], ["S", "Save the picture, in the large view"],
  ["Tab Enter", "Take the offered name, in prompts"],
];

easel.keys.map = () => ({ ...Object.fromEntries(Object.entries(easel.keys.ACTIONS).map(([name, [combo]]) => [name, combo])), ...easel.stored("keys", {}) });

easel.keys.combo = (event) => [
  event.ctrlKey || event.metaKey ? "Ctrl" : "", event.altKey ? "Alt" : "", event.shiftKey && event.key.length > 1 ? "Shift" : "",
  event.key.length === 1 ? event.key.toUpperCase() : event.key,
].filter(Boolean).join("+");

easel.keys.set = (name, combo) => {
  const own = easel.stored("keys", {});
  if (combo === null || combo === easel.keys.ACTIONS[name][0]) delete own[name];
  else own[name] = combo;
  easel.store("keys", own);
};

// The name of another action in the same place that has this combination already.
easel.keys.taken = (name, combo) => Object.entries(easel.keys.map()).find(([other, theirs]) => other !== name && theirs === combo)?.[0];

easel.keys.act = {
  generate: (tab) => {
    const field = document.activeElement;
    if (field?.matches("input")) field.blur(); // number boxes commit when they are left
    setTimeout(() => { easel.habits.generate(tab); field?.focus?.(); }, 30);
  },
  skip: (tab) => easel.skip(tab),
  interrupt: (tab) => easel.interrupt(tab),
  weight_up: (tab, area) => easel.prompt.weigh(area, 1),
  weight_down: (tab, area) => easel.prompt.weigh(area, -1),
  move_left: (tab, area) => easel.prompt.move(area, -1),
  move_right: (tab, area) => easel.prompt.move(area, 1),
  older: (tab, area) => easel.prompt.browse(area, 1),
  newer: (tab, area) => easel.prompt.browse(area, -1),
  next_tab: () => easel.stepTab(1),
  previous_tab: () => easel.stepTab(-1),
};

easel.keys.watch = () => document.addEventListener("keydown", (event) => {
  if (event.isComposing || easel.keys.asking) return;
  const combo = easel.keys.combo(event);
  const name = Object.entries(easel.keys.map()).find(([, theirs]) => theirs === combo)?.[0];
  if (!name) return;
  const where = easel.keys.ACTIONS[name][2];
  const tab = easel.currentTab();
  const area = easel.prompt.field(event);
  if (where === "prompt" && !area) return;
  if (where !== "page" && tab !== "extras" && !easel.generators.includes(tab)) return;
  if (name === "interrupt" && easel.somethingIsOpen()) return;
  if (name !== "interrupt") {
    event.preventDefault();
    event.stopPropagation();
  }
  easel.keys.act[name](tab, area);
}, true);
