// Overrides: checkpoint, VAE and CLIP skip that came with parameters count for their tab alone, as chips below the top row, which stays as it is.
easel.overrides = { LABELS: { checkpoint: "Checkpoint", vae: "VAE", clip_skip: "CLIP skip" }, root: null };

easel.overrides.of = (tab) => easel.stored("overrides_1", {})[tab] ?? {};

easel.overrides.set = (tab, values) => {
  easel.store("overrides_1", { ...easel.stored("overrides_1", {}), [tab]: values });
  easel.overrides.show();
  document.dispatchEvent(new Event("easel:checkpoint"));
};

easel.overrides.without = (tab, name) => {
  const { [name]: gone, ...others } = easel.overrides.of(tab);
  if (gone !== undefined) easel.overrides.set(tab, others);
};

// The person chose for themselves in the top row: that counts from now on.
easel.overrides.drop = (name) => easel.overrides.without(easel.currentTab(), name);

easel.overrides.adopt = (tab, name) => {
  easel.fire("quick", "adopt", { [name]: easel.overrides.of(tab)[name] });
  easel.overrides.without(tab, name);
};

easel.overrides.show = () => {
  const { root, LABELS } = easel.overrides;
  const tab = easel.currentTab();
  const make = easel.make;
  const chips = Object.entries(easel.generators.includes(tab) ? easel.overrides.of(tab) : {}).filter(([name]) => LABELS[name]).map(([name, value]) =>
    make("span", { class: "override", "data-name": name },
      make("button", { type: "button", class: "adopt", title: "Take it into the top row, for all tabs", onclick: () => easel.overrides.adopt(tab, name) },
        make("span", {}, LABELS[name]), make("b", { translate: "no" }, String(value))),
      easel.iconButton("close", `Remove ${LABELS[name]}: the top row counts again`, () => easel.overrides.without(tab, name))));
  root?.replaceChildren(...(chips.length ? [make("span", { class: "words" }, "On this tab, as read:")] : []), ...chips);
};

easel.overridesView = (root) => {
  easel.overrides.root = root;
  document.addEventListener("easel:tab", easel.overrides.show);
  easel.overrides.show();
};
