// Editing prompts: weights and order by keys, a history, the token counter, unclosed brackets. All changes can be undone with Ctrl+Z.
easel.prompt = {};

easel.prompt.field = (event) => event.target.closest?.(".prompt textarea") ?? null;

// Puts `text` in place of the characters from `start` to `end` as if it were typed, and selects what `select` says, [from, to] in the new text.
easel.prompt.replace = (area, start, end, text, select) => {
  area.setSelectionRange(start, end);
  document.execCommand("insertText", false, text);
  area.setSelectionRange(start + select[0], start + select[1]);
};

// Puts whole texts into fields of a tab, by the ends of their ids, as if they were typed.
easel.prompt.put = (tab, texts) => {
  easel.openTab(tab); // what is hidden cannot be typed into
  const before = document.activeElement;
  for (const [kind, text] of Object.entries(texts)) {
    const area = document.querySelector(`#${tab}_${kind} textarea`);
    if (area.value === text) continue;
    area.focus({ preventScroll: true });
    area.setSelectionRange(0, area.value.length);
    document.execCommand(text ? "insertText" : "delete", false, text);
    area.blur(); // no keyboard of a phone stays open
  }
  before?.focus?.({ preventScroll: true });
};

easel.prompt.texts = (tab) => Object.fromEntries(["prompt", "neg_prompt"].map((kind) => [kind, document.querySelector(`#${tab}_${kind} textarea`).value]));

// Both prompts emptied; for a while a click brings them back, and Ctrl+Z always does.
easel.prompt.clear = (tab) => {
  const texts = easel.prompt.texts(tab);
  if (!Object.values(texts).some(Boolean)) return;
  easel.prompt.put(tab, { neg_prompt: "", prompt: "" }); // Ctrl+Z undoes what was last first
  easel.toast("The prompts are cleared.", { label: "Undo", act: () => easel.prompt.put(tab, texts) });
};

// --- Weights: Ctrl+Up and Ctrl+Down on the selection, the brackets around the caret, or the word under it ---------------

easel.prompt.STEP = { "(": 0.1, "<": 0.05 };

// The innermost pair of brackets around [start, end]: {open, close} as places of both characters; null if there is none.
easel.prompt.around = (text, start, end, open, close) => {
  let depth = 0;
  let from = -1;
  for (let i = start - 1; i >= 0 && from < 0; i--) {
    if (text[i - 1] === "\\") continue;
    if (text[i] === close) depth++;
    else if (text[i] === open && depth-- === 0) from = i;
  }
  if (from < 0) return null;
  depth = 0;
  for (let i = end; i < text.length; i++) {
    if (text[i - 1] === "\\") continue;
    if (text[i] === open) depth++;
    else if (text[i] === close && depth-- === 0) return { open: from, close: i };
  }
  return null;
};

easel.prompt.word = (text, at) => {
  const parts = /[\s,.;:()[\]{}<>|=+"`~!?/\\]/;
  let start = at;
  let end = at;
  while (start > 0 && !parts.test(text[start - 1])) start--;
  while (end < text.length && !parts.test(text[end])) end++;
  return [start, end];
};

easel.prompt.rounded = (number) => String(Math.round(number * 100) / 100);

easel.prompt.weigh = (area, sign) => {
  const text = area.value;
  let [start, end] = [area.selectionStart, area.selectionEnd];
  for (const [open, close] of [["<", ">"], ["(", ")"]]) {
    const pair = easel.prompt.around(text, start, end, open, close);
    if (!pair) continue;
    const inside = text.slice(pair.open + 1, pair.close);
    const number = /:\s*(-?\d*\.?\d+)\s*$/.exec(inside);
    if (open === "<" && !number) continue;
    const weight = (number ? Number(number[1]) : 1.1) + sign * easel.prompt.STEP[open];
    const body = number ? inside.slice(0, number.index) : inside;
    const plain = open === "(" && Math.abs(weight - 1) < 0.001; // a weight of 1 needs no brackets
    const now = plain ? body : `${open}${body}:${easel.prompt.rounded(weight)}${close}`;
    const [from, length] = plain ? [0, body.length] : [1, body.length];
    return easel.prompt.replace(area, pair.open, pair.close + 1, now, [from, from + length]);
  }
  if (start === end) [start, end] = easel.prompt.word(text, start);
  while (start < end && /\s/.test(text[start])) start++;
  while (end > start && /\s/.test(text[end - 1])) end--;
  if (start === end) return;
  const body = text.slice(start, end);
  easel.prompt.replace(area, start, end, `(${body}:${easel.prompt.rounded(1 + sign * 0.1)})`, [1, 1 + body.length]);
};

// --- Order: Alt+Left and Alt+Right move the element between two commas ---------------------------------------------------

// The places [start, end] of the elements between the commas that stand outside of brackets.
easel.prompt.elements = (text) => {
  const found = [];
  let depth = 0;
  let start = 0;
  for (let i = 0; i <= text.length; i++) {
    if (text[i - 1] === "\\") continue;
    if ("([{<".includes(text[i] ?? " ")) depth++;
    else if (")]}>".includes(text[i] ?? " ")) depth = Math.max(depth - 1, 0);
    else if (i === text.length || (text[i] === "," && !depth)) {
      found.push([start, i]);
      start = i + 1;
    }
  }
  return found;
};

easel.prompt.move = (area, step) => {
  const text = area.value;
  const all = easel.prompt.elements(text);
  const at = all.findIndex(([, end]) => area.selectionStart <= end);
  const other = at + step;
  if (at < 0 || !all[other]) return;
  const [first, second] = step > 0 ? [all[at], all[other]] : [all[other], all[at]];
  const trimmed = ([start, end]) => {
    const raw = text.slice(start, end);
    const before = raw.length - raw.trimStart().length;
    return [start + before, start + before + raw.trim().length];
  };
  const [a, b] = [trimmed(first), trimmed(second)];
  const now = text.slice(b[0], b[1]) + text.slice(a[1], b[0]) + text.slice(a[0], a[1]);
  const moved = step > 0 ? [now.length - (a[1] - a[0]), now.length] : [0, b[1] - b[0]];
  easel.prompt.replace(area, a[0], b[1], now, moved);
};

// --- History: Alt+Up and Alt+Down go through the prompts that were generated ---------------------------------------------

easel.prompt.KEPT = 100;
easel.prompt.browsing = new Map(); // field -> {place, draft}

easel.prompt.remember = (tab) => {
  for (const kind of ["prompt", "neg_prompt"]) {
    const text = document.querySelector(`#${tab}_${kind} textarea`)?.value.trim();
    if (!text) continue;
    const past = easel.stored(`history_${kind}`, []).filter((each) => each !== text);
    easel.store(`history_${kind}`, [text, ...past].slice(0, easel.prompt.KEPT));
  }
  easel.prompt.browsing.clear();
};

easel.prompt.browse = (area, step) => {
  const kind = area.closest("[id]").id.includes("neg_prompt") ? "neg_prompt" : "prompt";
  const past = easel.stored(`history_${kind}`, []);
  const now = easel.prompt.browsing.get(area) ?? { place: -1, draft: area.value };
  if (now.place < 0) now.draft = area.value;
  const place = now.place + step;
  if (place < -1 || place >= past.length) return;
  const text = place < 0 ? now.draft : past[place];
  easel.prompt.replace(area, 0, area.value.length, text, [text.length, text.length]);
  easel.prompt.browsing.set(area, { place, draft: now.draft });
};

// --- The counter above each prompt: tokens of the text encoder's chunks, or what is wrong --------------------------------

easel.prompt.unclosed = (text) => {
  const open = [];
  const partner = { ")": "(", "]": "[" };
  for (let i = 0; i < text.length; i++) {
    if (text[i] === "\\") i++;
    else if ("([".includes(text[i])) open.push(text[i]);
    else if (partner[text[i]]) {
      if (open[open.length - 1] !== partner[text[i]]) return `A ${text[i]} closes nothing`;
      open.pop();
    }
  }
  return open.length ? `A ${open[open.length - 1]} is never closed` : "";
};

easel.prompt.counter = (area) => {
  const box = area.closest(".prompt");
  let label = box.querySelector(".tokens");
  if (!label) box.append(label = easel.make("span", { class: "tokens", role: "status" }));
  return label;
};

easel.prompt.count = async (area) => {
  const id = area.closest("[id]").id;
  const text = area.value;
  try {
    const answer = await easel.request("internal/tokens", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ prompts: { [id]: text }, steps: 20 }),
    });
    const told = (await answer.json())[id];
    if (text !== area.value) return;
    const label = easel.prompt.counter(area);
    const wrong = told.problem ?? easel.prompt.unclosed(text);
    label.classList.toggle("wrong", Boolean(wrong));
    label.textContent = told.problem ? "!" : `${told.used}/${told.room}`;
    label.title = wrong ? easel.sentence(wrong) : "Tokens of the text encoder's chunks";
    if (wrong && !told.problem) label.textContent = `${label.textContent} · ${wrong}`;
  } catch { /* no server: the count stays as it is */ }
};

easel.prompt.watch = () => {
  const timers = new Map();
  const later = (area) => {
    area.dataset.counted = area.value;
    clearTimeout(timers.get(area));
    timers.set(area, setTimeout(() => easel.prompt.count(area), 200));
  };
  document.addEventListener("input", (event) => {
    const area = easel.prompt.field(event);
    if (!area) return;
    easel.prompt.offer(area, event);
    later(area);
  });
  setInterval(() => { // values that Python sets send no event
    for (const area of document.querySelectorAll(".prompt textarea")) {
      if (area.checkVisibility() && area.dataset.counted !== area.value) later(area);
    }
  }, 500);
};

// --- A pasted infotext is offered to be read ----------------------------------------------------------------------------

easel.prompt.offer = (area, event) => {
  if (event.inputType !== "insertFromPaste") return;
  const tab = easel.currentTab();
  const told = /(^|\n)Steps: \d+, |"(negative_)?prompt"\s*:/i.test(area.value);
  if (!told || !easel.generators.includes(tab)) return;
  const box = area.closest(".prompt");
  box.querySelector(".found")?.remove();
  const chip = easel.make("div", { class: "found", role: "status" }, easel.make("span", {}, "Parameters found"),
    easel.make("button", { type: "button", onclick: () => { chip.remove(); easel.paste(tab); } }, "Apply"),
    easel.iconButton("close", "Keep it as text", () => chip.remove()));
  box.append(chip);
};
