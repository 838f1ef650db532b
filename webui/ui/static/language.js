// The page in another language. English is the source: whatever text reaches the page is looked up in the catalogue by its English words, and
// put in its place. So Gradio's labels, our own nodes and the server's sentences are translated in one place, and at once when one switches.
// Keys with {} match any text there; what it stands for goes into the translation's {} in order. Texts of users are in nodes marked
// translate="no", or in fields, and are left alone.
easel.language = { catalogues: {}, texts: null, patterns: [], originals: new WeakMap(), titles: new WeakMap() };

easel.language.NAMES = { en: "English", "zh-CN": "简体中文" };
easel.language.ATTRIBUTES = ["placeholder", "title", "aria-label", "alt", "aria-valuetext"];
easel.language.LEFT = "script, style, textarea, pre, code, svg, [translate=no], .infotext, .thumb"; // whose contents are no words of ours

easel.language.current = () => easel.stored("language", null) ?? (/^zh/i.test(navigator.language) ? "zh-CN" : "en");

easel.language.compile = (catalogue) => {
  const plain = new Map();
  const patterns = [];
  for (const [english, other] of Object.entries(catalogue ?? {})) {
    if (!english.includes("{}")) plain.set(english, other);
    else patterns.push([new RegExp(`^${english.split("{}").map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("([^]*?)")}$`, "i"), other]);
  }
  patterns.sort((a, b) => b[0].source.length - a[0].source.length); // what says most is tried first
  return { plain, patterns };
};

// The words in the page's language; as they are where the catalogue has none.
easel.t = (english) => {
  const { plain, patterns } = easel.language;
  if (!plain || !/[a-z]/i.test(english)) return english;
  const words = english.trim();
  const found = plain.get(words) ?? plain.get(words[0].toLowerCase() + words.slice(1)) ?? plain.get(words[0].toUpperCase() + words.slice(1));
  if (found !== undefined) return english.replace(words, () => found);
  const parts = words.split(" · ");
  if (parts.length > 1) return parts.map(easel.t).join(" · ");
  for (const [pattern, other] of patterns) {
    const match = pattern.exec(words);
    if (!match) continue;
    let place = 0;
    return other.replace(/\{(\d*)\}/g, (_, number) => easel.t(match[number ? Number(number) : ++place] ?? ""));
  }
  return english;
};

easel.language.isLeft = (node) => Boolean((node.nodeType === 1 ? node : node.parentElement)?.closest(easel.language.LEFT));

easel.language.text = (node) => {
  if (easel.language.isLeft(node)) return;
  const known = easel.language.originals.get(node);
  const english = known && known.shown === node.data ? known.english : node.data;
  const shown = easel.t(english);
  if (shown !== english || known) easel.language.originals.set(node, { english, shown });
  if (node.data !== shown) node.data = shown;
};

easel.language.attributes = (node) => {
  if (node.closest("[translate=no]")) return;
  for (const name of easel.language.ATTRIBUTES) {
    const value = node.getAttribute(name);
    if (!value) continue;
    const all = easel.language.titles.get(node) ?? {};
    const english = all[name]?.shown === value ? all[name].english : value;
    const shown = easel.t(english);
    if (shown === english && !all[name]) continue;
    easel.language.titles.set(node, { ...all, [name]: { english, shown } });
    if (shown !== value) node.setAttribute(name, shown);
  }
};

easel.language.under = (root) => {
  if (root.nodeType === 3) return easel.language.text(root);
  if (root.nodeType !== 1) return;
  easel.language.attributes(root);
  for (const node of root.querySelectorAll(easel.language.ATTRIBUTES.map((name) => `[${name}]`).join())) easel.language.attributes(node);
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) easel.language.text(walker.currentNode);
};

easel.language.set = (name) => {
  easel.store("language", name);
  easel.language.apply(name);
  document.dispatchEvent(new Event("easel:language"));
};

easel.language.apply = (name) => {
  Object.assign(easel.language, name === "en" ? { plain: null, patterns: [] } : easel.language.compile(easel.language.catalogues[name]));
  document.documentElement.lang = name;
  if (document.body) easel.language.under(document.body);
};

easel.language.watch = () => {
  easel.language.apply(easel.language.current());
  new MutationObserver((changes) => {
    if (!easel.language.plain) return;
    for (const { type, target, addedNodes } of changes) {
      if (type === "characterData") easel.language.text(target);
      else if (type === "attributes") easel.language.attributes(target);
      else for (const node of addedNodes) easel.language.under(node);
    }
  }).observe(document.documentElement, { subtree: true, childList: true, characterData: true, attributes: true, attributeFilter: easel.language.ATTRIBUTES });
};

// The switch in the corner: says the other language in its own words.
easel.language.button = () => {
  const other = () => (easel.language.current() === "en" ? "zh-CN" : "en");
  const button = easel.make("button", { type: "button", class: "tool language", translate: "no", onclick: () => easel.language.set(other()) });
  const show = () => {
    button.textContent = { en: "EN", "zh-CN": "中" }[other()];
    button.title = easel.language.NAMES[other()];
    button.setAttribute("aria-label", button.title);
    button.lang = other();
  };
  document.addEventListener("easel:language", show);
  show();
  return button;
};
