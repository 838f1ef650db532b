// Work on checkpoints as files (merging, saving): what was ordered, how far it is, how it ended.
class OrdersView {
  constructor(root) {
    this.jobs = new Map(); // id -> latest snapshot, in order of arrival
    this.rows = new Map(); // id -> its nodes
    this.shown = null; // no picture, whoever asks
    this.list = easel.make("ol", { class: "orders-list", "aria-live": "polite" });
    this.empty = easel.make("p", { class: "hint" }, "What is merged and saved here shows its progress in this place.");
    root.append(this.empty, this.list);
  }

  ended(job) { return ["done", "failed", "interrupted"].includes(job.status); }
  current() { return Array.from(this.jobs.values()).find((job) => !this.ended(job)) ?? null; }
  lastInfotext() { return undefined; }

  update(job, past) {
    const before = this.jobs.get(job.id);
    if (before && job.seq < before.seq) return;
    this.jobs.set(job.id, job);
    this.row(job);
    if (job.status === "done" && before && !this.ended(before)) document.getElementById("refresh_checkpoints")?.click();
    if (!past && job.status === "failed" && before?.status !== "failed") easel.toast(job.error);
  }

  forget(active) { // jobs that the server knows nothing of any more
    for (const [id, job] of this.jobs) {
      if (!this.ended(job) && !active.includes(id)) this.update({ ...job, status: "interrupted", text: "Interrupted" }, true);
    }
  }

  row(job) {
    this.empty.hidden = true;
    let row = this.rows.get(job.id);
    if (!row) {
      const fill = easel.make("div", { class: "fill" });
      const bar = easel.make("div", { class: "bar", role: "progressbar", "aria-label": job.title, "aria-valuemin": 0, "aria-valuemax": 100 }, fill);
      const words = easel.make("span", { class: "words" });
      const stop = easel.iconButton("close", "Stop this", () => this.stop(job.id));
      const node = easel.make("li", {}, easel.make("strong", {}, job.title), bar, words, stop);
      row = { node, bar, fill, words, stop };
      this.rows.set(job.id, row);
      this.list.prepend(node);
    }
    row.node.dataset.status = job.status;
    const percent = Math.round(job.fraction * 100);
    row.fill.style.width = `${percent}%`;
    row.bar.setAttribute("aria-valuenow", percent);
    row.bar.hidden = this.ended(job);
    row.stop.hidden = this.ended(job);
    row.words.textContent = easel.sentence(job.text);
  }

  async stop(id) {
    try {
      await easel.request(`internal/jobs/${id}/interrupt?client=${easel.client}`, { method: "POST" });
    } catch (error) {
      easel.toast(error.message);
    }
  }
}

easel.ordersView = (root) => { easel.results.merger = new OrdersView(root); };

// Checkpoints B and C and the multiplier look usable where the method uses them. (Gradio writes its widgets' classes anew; it leaves ours here.)
easel.showSlots = (others) => { document.documentElement.dataset.merged = others; };

easel.order = async (kind, key, names, values) => {
  const fields = Object.fromEntries(names.map((name, i) => [name, values[i] ?? ""]));
  try {
    await easel.request(`internal/models/${kind}`, { method: "POST", headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ [key]: fields, client: easel.client }) });
  } catch (error) {
    easel.toast(error.message);
  }
};
