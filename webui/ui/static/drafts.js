// What the fields hold survives a reload: it is kept in this browser as it is typed.
// Gradio could tell of every change by itself, but it searches its tree of all components once for each field of each such event: with these
// few hundred fields the page came a second later, and every key that was pressed cost 30 ms. So after whatever a person does we look ourselves.
easel.drafts = () => easel.stored("drafts_1", {});
easel.keptDrafts = {}; // group -> what it held when it was last looked at
easel.touchedTabs = new Set(); // where something was done of late
easel.awaitedDrafts = []; // who waits for the next look

easel.keep = (group, names, values) => {
  if (!easel.ready) return; // Gradio's first values are not the user's
  if (group === "quick") setTimeout(() => document.dispatchEvent(new Event("easel:checkpoint")), 50); // when the field shows it
  const now = Object.fromEntries(names.map((name, i) => [name, values[i]]));
  const [text, before] = [JSON.stringify(now), easel.keptDrafts[group]];
  easel.keptDrafts[group] = text;
  if (text === before) return; // another window may have kept something since
  const tab = group.replace("_script", "");
  if (before === undefined && easel.generators.includes(tab) && !easel.touchedTabs.has(tab)) return; // what the page began with
  easel.store("drafts_1", { ...easel.drafts(), [group]: now });
};

// groups: name -> its fields; values: those of all groups, one after another.
easel.keepAll = (groups, values) => {
  let at = 0;
  for (const [group, names] of Object.entries(groups)) easel.keep(group, names, values.slice(at, at += names.length));
  for (const seen of easel.awaitedDrafts.splice(0)) seen();
};

// The drafts with what a tab's fields hold at this moment.
easel.draftsNow = async (tab) => {
  easel.touchedTabs.add(tab);
  await new Promise((seen) => { easel.awaitedDrafts.push(seen); easel.fire(tab, "keep", {}); });
  return easel.drafts();
};

// A field that is not Gradio's: what it holds is kept as it is typed, by its id. A button that is pressed or not is a field, too.
easel.keptField = (field) => {
  const kept = easel.stored("fields_1", {})[field.id];
  if (field.matches("[aria-pressed]")) field.setAttribute("aria-pressed", String(kept === "true"));
  else if (kept !== undefined && (!field.options || Array.from(field.options).some((option) => option.value === kept))) field.value = kept;
  field.addEventListener("input", () => easel.keepFields(field));
  return field;
};

// As they are now: what the page itself has changed in them is no event.
easel.keepFields = (...fields) => {
  const held = (field) => field.getAttribute("aria-pressed") ?? field.value;
  easel.store("fields_1", { ...easel.stored("fields_1", {}), ...Object.fromEntries(fields.map((field) => [field.id, held(field)])) });
};

easel.watchDrafts = () => {
  const SOON = 250; // milliseconds; one look for what is done within them
  const LATER = [1000, 3000, 10000]; // what the server answers comes into the fields then
  for (const [group, values] of Object.entries(easel.drafts())) easel.keptDrafts[group] = JSON.stringify(values);
  const touched = easel.touchedTabs;
  let soon = 0;
  let later = [];
  const look = () => {
    for (const tab of touched) if (tab === "merger" || easel.generators.includes(tab)) easel.fire(tab, "keep", {});
  };
  const lookHere = () => { // a click on one tab may have led to another
    soon = 0;
    touched.add(easel.currentTab());
    look();
  };
  const done = () => {
    touched.add(easel.currentTab());
    soon ||= setTimeout(lookHere, SOON);
    later.forEach(clearTimeout);
    later = LATER.map((after) => setTimeout(lookHere, after));
    later.push(setTimeout(() => touched.clear(), Math.max(...LATER) + SOON));
  };
  for (const kind of ["input", "change", "click", "keyup", "drop"]) document.addEventListener(kind, done, true);
  document.addEventListener("visibilitychange", look);
  addEventListener("pagehide", look);
  easel.lookAtDrafts = done;
  easel.beginDrafts = () => setTimeout(() => { for (const tab of easel.generators) easel.fire(tab, "keep", {}); }, 1000);
};
