// Names of LoRAs, embeddings, hypernetworks, styles and wildcards while one types a prompt. Arrow keys choose, Tab or Enter takes, Esc closes.
easel.completion = (area) => {
  const list = easel.make("ul", { class: "options", role: "listbox", hidden: true, id: `${area.closest("[id]").id}_options` });
  let offers = [];
  let chosen = 0;
  let timer = null;
  let asked = null;
  area.setAttribute("aria-autocomplete", "list");
  area.setAttribute("aria-controls", list.id);

  const close = () => {
    clearTimeout(timer);
    asked?.abort();
    list.hidden = true;
    offers = [];
  };
  const typed = () => /(<(?:lora|hypernet):[^<>:,]*|<?[^\s,()[\]<>|]{2,})$/i.exec(area.value.slice(0, area.selectionStart))?.[0] ?? "";
  const choose = (index) => {
    chosen = (index + offers.length) % offers.length;
    Array.from(list.children).forEach((each, i) => each.setAttribute("aria-selected", String(i === chosen)));
    list.children[chosen].scrollIntoView({ block: "nearest" });
  };
  const take = (offer) => {
    const word = typed();
    const end = area.selectionStart;
    area.focus();
    area.setSelectionRange(end - word.length, end);
    document.execCommand("insertText", false, offer.insert);
    close();
  };
  const show = (found) => {
    offers = found;
    list.replaceChildren(...offers.map((offer) => easel.make("li", { role: "option", onmousedown: (event) => { event.preventDefault(); take(offer); } },
      easel.make("span", {}, offer.title), easel.make("span", { class: "kind" }, { ...CardsView.KINDS, style: "Styles", wildcard: "Wildcards" }[offer.kind]))));
    if (!list.isConnected) area.parentElement.append(list); // Gradio may have drawn the field anew
    list.hidden = !offers.length;
    if (offers.length) choose(0);
  };
  const ask = async () => {
    const text = typed();
    if (!text) return close();
    asked?.abort();
    asked = new AbortController();
    try {
      const answer = await easel.request(`internal/complete?${new URLSearchParams({ text: text.replace(/^<(?!lora:|hypernet:)/i, "") })}`, { signal: asked.signal });
      const found = await answer.json();
      if (text === typed() && document.activeElement === area) show(found.models);
    } catch { /* a newer question, or no server: nothing is offered */ }
  };
  area.addEventListener("input", (event) => {
    clearTimeout(timer);
    if (event.isComposing || event.inputType === "insertFromPaste") return;
    timer = setTimeout(ask, 150);
  });
  area.addEventListener("blur", close);
  area.addEventListener("keydown", (event) => {
    if (list.hidden || event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) choose(chosen + step);
    else if (event.key === "Tab" || event.key === "Enter") take(offers[chosen]);
    else if (event.key === "Escape") close();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }, true);
};

// Fields are made ready when they are first entered: Gradio may replace them until then.
easel.watchPrompts = () => document.addEventListener("focusin", (event) => {
  const area = event.target.closest?.(".prompt textarea");
  if (!area || area.dataset.completes) return;
  area.dataset.completes = "yes";
  easel.completion(area);
});
