// The Queue tab: jobs that run, wait and have ended, as rows that are made once and changed afterwards; and a waiting job that is edited in its tab.
class QueueView {
  constructor(root) {
    this.rows = new Map(); // job id -> its nodes
    this.jobs = new Map(); // job id -> what was last told of it
    this.state = { waiting: 0, running: 0, paused: "" };
    this.editing = null; // { job, tab, drafts } while a job is changed in its tab
    this.putBack = ""; // the job that the next press of Generate changes
    const make = easel.make;
    this.summary = make("p", { class: "summary", role: "status" });
    this.pause = easel.iconButton("pause", "Pause", () => this.order({ order: this.state.paused ? "resume" : "pause" }), "Pause");
    this.pause.id = "queue_pause";
    this.clear = easel.iconButton("bin", "Clear finished", () => this.order({ order: "clear" }), "Clear finished");
    this.clear.id = "queue_clear";
    this.hint = make("p", { class: "hint" }, "Nothing is queued. Jobs that you start on any tab are listed here.");
    this.list = make("ol", { class: "queue-list", id: "queue_list" });
    root.append(make("div", { class: "queue-head" }, this.summary, this.pause, this.clear), this.hint, this.list);
    this.watchDrags();
    setInterval(() => { if (this.state.running) this.refresh(); }, 2000); // jobs of other clients, of which the socket does not tell
  }

  ended(job) { return ["done", "failed", "interrupted"].includes(job.status); }
  visible() { return easel.currentTab() === "queue" && !document.hidden; }

  hear(told) { // what the socket says
    if (told.queue) {
      this.state = told.queue;
      this.showState();
      this.refresh();
    }
    for (const news of told.jobs ?? []) {
      const job = this.jobs.get(news.id);
      if (!job || news.status === "queued") continue;
      Object.assign(job, { status: news.status, fraction: news.fraction, text: news.text, error: news.error });
      if (news.pictures?.length) job.picture = news.pictures[0];
      this.show(job);
    }
  }

  showState() {
    const { waiting, running, paused } = this.state;
    const count = waiting + running;
    const tab = document.getElementById("open_queue");
    if (tab) {
      if (!tab.querySelector(".count")) tab.append(easel.make("span", { class: "count" }));
      tab.querySelector(".count").textContent = count || "";
      tab.setAttribute("aria-label", count ? `Queue, ${running} running, ${waiting} waiting` : "Queue");
    }
    const words = `${running} running, ${waiting} waiting`;
    const whole = paused ? `${words}. Paused: what runs is finished, what waits stays.` : words;
    if (this.summary.textContent !== whole) this.summary.textContent = whole;
    this.pause.className = `tool ${paused ? "play" : "pause"}`;
    this.pause.lastChild.textContent = paused ? "Go on" : "Pause";
    this.pause.title = paused ? "Go on" : "Pause";
    this.pause.setAttribute("aria-label", this.pause.title);
  }

  async refresh() { // one question at a time; what changes meanwhile is asked for afterwards
    if (!this.visible()) return;
    if (this.asking) { this.again = true; return; }
    this.asking = true;
    try {
      const told = await (await easel.request(`internal/queue?client=${easel.client}`)).json();
      this.state = told.state;
      this.showAll(told.jobs);
    } catch (error) {
      this.summary.textContent = error.message;
    }
    this.asking = false;
    if (this.again) { this.again = false; this.refresh(); }
  }

  showAll(jobs) {
    const focused = document.activeElement;
    this.jobs = new Map(jobs.map((job) => [job.id, job]));
    for (const [id, row] of this.rows) if (!this.jobs.has(id)) { row.node.remove(); this.rows.delete(id); }
    jobs.forEach((job, i) => {
      this.show(job);
      const { node } = this.rows.get(job.id);
      if (this.list.children[i] !== node) this.list.insertBefore(node, this.list.children[i] ?? null);
    });
    const waiting = jobs.filter((job) => job.status === "queued").map((job) => job.id);
    waiting.forEach((id, i) => {
      const { up, top, down } = this.rows.get(id);
      up.disabled = top.disabled = i === 0;
      down.disabled = i === waiting.length - 1;
    });
    this.hint.hidden = jobs.length > 0;
    this.clear.disabled = !jobs.some((job) => this.ended(job));
    this.showState();
    if (focused?.isConnected && focused !== document.activeElement) focused.focus(); // moving a row takes its focus away
  }

  row(job) {
    const make = easel.make;
    const act = (icon, label, order, text = "") => easel.iconButton(icon, label, () => this.order({ job: job.id, ...order }), text);
    const row = {
      image: make("img", { alt: "", hidden: true }), blank: make("i", { "aria-hidden": "true" }),
      title: make("strong"), words: make("span", { class: "words" }), fill: make("div", { class: "fill" }),
      up: act("up", "Move up", { order: "move", to: "up" }), down: act("down", "Move down", { order: "move", to: "down" }),
      top: act("top", "Move to the top", { order: "move", to: "top" }),
      edit: easel.iconButton("pencil", "Edit in its tab", () => this.edit(this.jobs.get(job.id))),
      same: act("copy", "Duplicate", { order: "duplicate" }),
      dice: act("dice", "Duplicate with a new seed", { order: "duplicate", new_seed: true }),
      retry: act("recycle", "Try again", { order: "retry" }, "Try again"),
      cancel: act("close", "Cancel", { order: "cancel" }),
    };
    row.bar = make("div", { class: "bar", role: "progressbar", "aria-label": "Progress", "aria-valuemin": 0, "aria-valuemax": 100 }, row.fill);
    row.priority = make("select", { "aria-label": "Priority", onchange: () => this.order({ order: "priority", job: job.id, priority: row.priority.value }) },
      ...[["high", "High"], ["normal", "Normal"], ["low", "Low"]].map(([value, name]) => make("option", { value }, name)));
    row.thumb = make("button", { type: "button", class: "thumb", title: "Open its tab", "aria-label": "Open its tab", onclick: () => easel.openTab(job.tab) }, row.image, row.blank);
    row.node = make("li", { "data-job": job.id }, row.thumb, make("div", { class: "about-job" }, row.title, row.bar, row.words),
      make("div", { class: "acts" }, row.priority, row.top, row.up, row.down, row.edit, row.retry, row.same, row.dice, row.cancel));
    return row;
  }

  show(job) {
    if (!this.rows.has(job.id)) this.rows.set(job.id, this.row(job));
    const row = this.rows.get(job.id);
    const [waits, ended] = [job.status === "queued", this.ended(job)];
    row.node.dataset.status = job.status;
    row.node.draggable = waits;
    row.title.textContent = job.title || "No prompt";
    row.node.setAttribute("aria-label", `${job.title || "No prompt"}, ${job.status}`);
    row.words.textContent = [job.own ? "" : "Another client", easel.tabNames[job.tab], easel.sentence(job.text)].filter(Boolean).join(" · ");
    row.bar.hidden = waits || ended;
    const percent = Math.round(job.fraction * 100);
    row.fill.style.width = `${percent}%`;
    row.bar.setAttribute("aria-valuenow", percent);
    for (const each of [row.up, row.down, row.top, row.priority]) each.hidden = !waits;
    row.edit.hidden = !(waits && job.editable);
    row.retry.hidden = !["failed", "interrupted"].includes(job.status);
    row.cancel.hidden = ended;
    row.dice.hidden = ["merger", "train"].includes(job.tab);
    if (document.activeElement !== row.priority) row.priority.value = job.priority;
    const source = job.picture ? `internal/pictures/${job.picture.id}?v=${job.picture.version}` : job.inputs.image ? `internal/inputs/${job.inputs.image}` : "";
    if (source && row.source !== source) { row.source = source; row.image.src = easel.url(source); }
    row.image.hidden = !source;
    row.blank.hidden = Boolean(source);
  }

  async order(order) {
    try {
      await easel.request("internal/queue", { method: "POST", headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ client: easel.client, ...order }) });
    } catch (error) {
      easel.toast(error.message);
    }
    await this.refresh();
  }

  // --- Dragging a waiting row before another -----------------------------------------------------------------------------

  watchDrags() {
    let dragged = null;
    const over = (event) => {
      const row = event.target.closest?.("li[data-status=queued]");
      return dragged && row && row !== dragged ? row : null;
    };
    const mark = (row) => {
      this.list.querySelector(".drop-before")?.classList.remove("drop-before");
      row?.classList.add("drop-before");
    };
    this.list.addEventListener("dragstart", (event) => {
      dragged = event.target.closest?.("li[data-status=queued]");
      event.dataTransfer?.setData("text/plain", dragged?.dataset.job ?? "");
    });
    this.list.addEventListener("dragover", (event) => { const row = over(event); mark(row); if (row) event.preventDefault(); });
    this.list.addEventListener("dragend", () => { dragged = null; mark(null); });
    this.list.addEventListener("drop", (event) => {
      const row = over(event);
      mark(null);
      if (!row) return;
      event.preventDefault();
      const down = dragged.compareDocumentPosition(row) & Node.DOCUMENT_POSITION_FOLLOWING;
      const next = down ? row.nextElementSibling : row; // dropped further down: behind the row
      const job = dragged.dataset.job;
      if (next?.dataset.status === "queued") this.order({ order: "before", job, before: next.dataset.job });
      else this.order({ order: "move", job, to: "bottom" });
    });
  }

  // --- A waiting job in its own tab --------------------------------------------------------------------------------------

  async edit(job) {
    if (this.editing) this.leave();
    this.editing = { job: job.id, tab: job.tab, drafts: await easel.draftsNow(job.tab), overrides: easel.overrides.of(job.tab) };
    easel.overrides.set(job.tab, {}); // the top row shows the job's own
    easel.openTab(job.tab);
    easel.fire(job.tab, "edit", { job: job.id, client: easel.client });
    this.banner(job);
    try {
      if (job.tab === "img2img") easel.pressMode(job.inputs.mask ? 2 : 0);
      if (job.inputs.image) await easel.canvases[job.tab]?.load(`internal/inputs/${job.inputs.image}`, true);
    } catch (error) {
      easel.toast(error.message);
    }
  }

  banner(job) {
    const words = easel.make("p", {}, `You are editing a waiting job: ${job.title || "No prompt"}`);
    const save = easel.iconButton("send", "Put it back into the queue as it is now", () => { this.putBack = job.id; easel.press(job.tab, "generate"); }, "Put back");
    save.id = "queue_put_back";
    const leave = easel.iconButton("close", "Leave the job as it was", () => this.leave(), "Leave it");
    leave.id = "queue_leave";
    const mask = job.inputs.mask ? [easel.make("p", { class: "words" }, "Its mask stays unless you paint another.")] : [];
    this.note = easel.make("div", { class: "editing", role: "group", "aria-label": "Editing a waiting job" }, words, ...mask, save, leave);
    document.querySelector(`#tab_${job.tab} .area-prompt`).prepend(this.note);
  }

  takePutBack() {
    const job = this.putBack;
    this.putBack = "";
    return job || undefined;
  }

  edited() {
    easel.toast("The waiting job is changed.");
    this.leave();
    easel.openTab("queue");
  }

  leave() { // the tab shows again what it showed before
    const { tab, drafts, overrides } = this.editing;
    easel.overrides.set(tab, overrides);
    this.note?.remove();
    this.editing = null;
    easel.fire(tab, "edit", { drafts });
  }
}

easel.queueView = (root) => { easel.queue = new QueueView(root); };
