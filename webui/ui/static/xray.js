// X-ray: what a picture was at each step, what was attended to, and studies of it. Each study is a job; this page shows what it has found so far.
class XrayView {
  constructor(root) {
    const make = easel.make;
    this.jobs = new Map(); // id -> latest snapshot
    this.known = []; // what the server keeps, the newest first
    this.told = null; // the study that is shown
    this.shown = null; // no picture, whoever asks
    this.choice = make("select", { id: "xray_job", "aria-label": "Which X-ray to show", onchange: () => this.try(this.open(this.choice.value)) });
    this.latest = make("button", { type: "button", class: "press primary", id: "xray_latest", onclick: () => this.try(this.ofLatest()) }, "X-ray the latest picture");
    this.file = make("input", { type: "file", id: "xray_file", class: "file", accept: "image/png,image/jpeg,image/webp", "aria-label": "Open a picture file" });
    this.file.addEventListener("change", () => { if (this.file.files[0]) this.try(this.take(this.file.files[0])); this.file.value = ""; });
    this.attention = make("input", { type: "checkbox", id: "xray_attention", checked: true });
    this.live = make("input", { type: "checkbox", id: "xray_live", checked: easel.stored("xray_live", false), onchange: () => easel.store("xray_live", this.live.checked) });
    this.bar = make("div", { class: "bar", role: "progressbar", "aria-label": "Progress of the X-ray", "aria-valuemin": 0, "aria-valuemax": 100 }, make("div", { class: "fill" }));
    this.words = make("span", { class: "words", role: "status" });
    this.stop = easel.iconButton("close", "Stop this X-ray", () => this.try(this.interrupt()), "Stop");
    this.progress = make("div", { class: "xray-progress", hidden: true }, this.bar, this.words, this.stop);
    this.notices = make("div", { class: "xray-notices", hidden: true });
    root.append(
      make("div", { class: "xray-head" }, this.choice, this.latest,
        make("label", { class: "press" }, this.file, "Open a picture"),
        make("label", { class: "check", title: "Attention is worked out a second time beside the run: the picture stays the same bit for bit, the run takes up to half as long again." }, this.attention, "Record attention (slower)"),
        make("label", { class: "check", title: "What Generate makes from now on is looked at while it runs, job by job: steps appear here at once. The pictures stay the same bit for bit. Of several pictures the first is recorded; scripts are not." }, this.live, "Record while generating")),
      this.progress,
      this.notices,
      this.studyTabs(),
    );
    this.studies = { recording: new StepsView(this), words: new WordsView(this), interpolation: new BetweenView(this), noising: new NoiseView(this) };
    for (const [kind, view] of Object.entries(this.studies)) {
      view.root.id = `xray_${kind}`;
      view.root.setAttribute("role", "tabpanel");
      view.root.setAttribute("aria-labelledby", `xray_open_${kind}`);
      root.append(view.root);
    }
    this.pick("recording");
    this.showChoice();
    const seen = new IntersectionObserver((entries) => { // nothing is fetched before somebody looks
      if (!entries.some((entry) => entry.isIntersecting)) return;
      seen.disconnect();
      this.try(this.refresh());
    });
    seen.observe(root);
  }

  // --- the four studies ---

  studyTabs() {
    const names = { recording: "Step by step", words: "Which words matter", interpolation: "Between two", noising: "Noise on a picture" };
    this.tabs = easel.make("div", { class: "xray-tabs", role: "tablist", "aria-label": "Studies" }, ...Object.entries(names).map(([kind, name]) =>
      easel.make("button", { type: "button", role: "tab", id: `xray_open_${kind}`, "data-kind": kind, "aria-controls": `xray_${kind}`, onclick: () => this.pick(kind) }, name)));
    this.tabs.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const kinds = Object.keys(names);
      this.pick(kinds[(kinds.indexOf(this.kind) + step + kinds.length) % kinds.length]);
      this.tabs.querySelector("[aria-selected=true]").focus();
    });
    return this.tabs;
  }

  pick(kind) {
    this.kind = kind;
    for (const button of this.tabs.children) {
      button.setAttribute("aria-selected", String(button.dataset.kind === kind));
      button.tabIndex = button.dataset.kind === kind ? 0 : -1;
    }
    for (const [name, view] of Object.entries(this.studies)) view.root.hidden = name !== kind;
    this.studies[kind].opened?.();
  }

  // --- ordering ---

  try(promise) { promise.catch((error) => easel.toast(error.message)); }

  async order(of, kind, study) {
    const body = JSON.stringify({ client: easel.client, kind, study, ...of });
    const { job } = await (await easel.request("internal/xray", { method: "POST", headers: { "Content-Type": "application/json" }, body })).json();
    await this.refresh();
    await this.open(job);
  }

  // What Generate sends: whether with attention; null where new jobs are not recorded.
  recordsNew() { return this.live.checked ? this.attention.checked : null; }

  record(of) { return this.order(of, "recording", { attention: this.attention.checked }); }

  // The request that the other studies start from: that of the study shown.
  base() {
    if (!this.told || this.told.kind === "noising") throw new Error("Make an X-ray of a picture first: the studies start from its parameters.");
    return { job: this.told.id };
  }

  ofLatest() {
    const views = easel.generators.map((tab) => easel.results[tab]).filter(Boolean);
    const running = views.map((view) => view.current()).find(Boolean);
    if (running) return running.xray ? this.open(running.id) : this.record({ job: running.id });
    const pictures = views.map((view) => view.pictures.find((picture) => !picture.sheet)).filter(Boolean);
    const newest = pictures.sort((one, other) => Number(other.version) - Number(one.version))[0];
    if (!newest) return Promise.reject(new Error("There is no picture yet; make one first."));
    return this.record({ picture: newest.id });
  }

  ofPicture(picture) {
    easel.openTab("xray");
    this.try(this.record({ picture: picture.id }));
  }

  async take(file) { // a picture from outside
    if (this.kind === "noising") { await this.studies.noising.take(file); return; }
    const kept = await easel.sendFile("internal/inputs", file);
    await this.record({ input: kept.input });
  }

  async interrupt() {
    if (this.told) await easel.request(`internal/jobs/${this.told.id}/interrupt?client=${easel.client}`, { method: "POST" });
  }

  // --- what the server knows ---

  address(path) { return `internal/xray${path}${path.includes("?") ? "&" : "?"}client=${easel.client}`; }
  fileAddress(name) { return easel.url(this.address(`/${this.told.id}/files/${name}`)); }
  exportAddress(kind, panel) { return easel.url(this.address(`/${this.told.id}/export/${kind}${panel ? `?panel=${panel}` : ""}`)); }

  async refresh() {
    this.known = (await (await easel.request(this.address(""))).json()).xrays;
    this.showChoice();
    if (!this.told && this.known.length) await this.open(this.known[0].id);
  }

  showChoice() {
    const time = (seconds) => new Date(seconds * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    const options = this.known.map((each) => easel.make("option", { value: each.id }, `${time(each.created)}  ${each.title}`));
    this.choice.replaceChildren(...(options.length ? options : [easel.make("option", { value: "" }, "No X-ray yet")]));
    this.choice.disabled = !options.length;
    if (this.told) this.choice.value = this.told.id;
  }

  async open(id) {
    const told = await (await easel.request(this.address(`/${id}`))).json();
    this.told = told;
    this.choice.value = id;
    this.pick(told.kind);
    this.studies[told.kind].show(told, true);
    for (const [kind, view] of Object.entries(this.studies)) if (kind !== told.kind) view.baseChanged?.(told);
    this.showProgress();
    if (told.live) this.try(this.follow());
  }

  // New findings of the study shown; one question at a time, asked again if there was news meanwhile.
  async follow() {
    if (this.asking) { this.again = true; return; }
    this.asking = true;
    const shown = this.told;
    try {
      const after = shown.steps.at(-1)?.step ?? 0;
      const news = await (await easel.request(this.address(`/${shown.id}?after=${after}`))).json();
      if (this.told === shown) {
        Object.assign(shown, news, { steps: [...shown.steps, ...news.steps] });
        this.studies[shown.kind].show(shown, false);
        this.showProgress();
      }
    } finally {
      this.asking = false;
    }
    if (this.again) { this.again = false; await this.follow(); }
  }

  // --- as easel.results has it ---

  ended(job) { return ["done", "failed", "interrupted"].includes(job.status); }
  current() { return Array.from(this.jobs.values()).find((job) => !this.ended(job)) ?? null; }
  waiting() { return Array.from(this.jobs.values()).filter((job) => job.status === "queued").length; }
  lastInfotext() { return undefined; }

  update(job, past) {
    const before = this.jobs.get(job.id);
    if (before && job.seq < before.seq) return;
    this.jobs.set(job.id, job);
    const own = job.tab === "xray"; // else one of another tab's, recorded as it runs
    if (!own && !past && !before) this.try(this.refresh().then(() => this.open(job.id)));
    if (own && !past) for (const sentence of job.notices.slice(before?.notices?.length ?? 0)) easel.toast(sentence);
    if (own && !past && job.status === "failed" && before?.status !== "failed") easel.toast(job.error);
    if (this.told?.id !== job.id) return;
    this.told.live = !this.ended(job);
    this.showProgress();
    if (!past || this.told.status !== job.status) this.try(this.follow());
  }

  forget(active) {
    for (const [id, job] of this.jobs) {
      if (!this.ended(job) && !active.includes(id)) this.update({ ...job, status: "interrupted", text: "Interrupted" }, true);
    }
  }

  showProgress() {
    const job = this.told && this.jobs.get(this.told.id);
    const status = job?.status ?? this.told?.status;
    const bad = ["failed", "interrupted"].includes(status);
    const running = Boolean(this.told) && !["done", "failed", "interrupted"].includes(status);
    this.progress.hidden = !running && !bad;
    this.bar.hidden = this.stop.hidden = !running;
    const percent = Math.round((job?.fraction ?? 0) * 100);
    this.bar.setAttribute("aria-valuenow", percent);
    this.bar.firstChild.style.width = `${percent}%`;
    this.words.textContent = easel.sentence((job ?? this.told)?.text ?? "");
    this.progress.dataset.status = status ?? "";
    this.showNotices((job ?? this.told)?.notices ?? []);
  }

  // What the job has to say, and which of its pictures this is.
  showNotices(told) {
    const base = this.told?.kind === "recording" ? this.told.request.base : {};
    const several = base.batch_size * base.batch_count;
    const lines = [...(several > 1 ? [`Of this job's ${several} pictures the first is recorded.`] : []), ...told.map(easel.sentence)];
    if (this.notices.dataset.lines === String(lines)) return;
    this.notices.dataset.lines = lines;
    this.notices.hidden = !lines.length;
    this.notices.replaceChildren(...lines.map((line) => easel.make("p", { class: "small" }, line)));
  }
}

easel.xrayView = (root) => { easel.xray = easel.results.xray = new XrayView(root); };
