// The result of a tab: a stage with picture, preview and progress, a strip of pictures, their infotext and where to send them.
// Nodes are made once and only changed afterwards, so that a click never loses its target.
class ResultView {
  constructor(root, tab) {
    this.tab = tab;
    this.jobs = new Map(); // id -> latest snapshot, in order of arrival
    this.shown = null; // the picture on the stage
    this.pictures = []; // newest job first
    this.spoken = -1;
    const make = easel.make;
    this.image = make("img", { class: "view", alt: "", hidden: true, tabindex: 0, onclick: () => this.openLarge() });
    this.image.addEventListener("keydown", (event) => { if (event.key === "Enter" && !event.ctrlKey && !event.altKey) this.openLarge(); });
    this.preview = make("img", { class: "preview", alt: "Preview of the picture in the making", hidden: true });
    this.empty = make("div", { class: "empty" }, make("i", { "aria-hidden": "true" }), make("p", {}, "Your pictures appear here."));
    this.bar = make("div", { class: "bar", role: "progressbar", "aria-label": "Progress", "aria-valuemin": 0, "aria-valuemax": 100 },
      make("div", { class: "fill" }));
    this.words = make("div", { class: "words" });
    this.live = make("div", { class: "spoken", "aria-live": "polite" });
    this.progress = make("div", { class: "progress", hidden: true }, this.bar, this.words);
    this.errorText = make("p");
    this.error = make("div", { class: "error", role: "alert", hidden: true }, this.errorText,
      easel.iconButton("close", "Close this message", () => { this.error.hidden = true; }));
    this.stage = make("div", { class: "stage" }, this.empty, this.image, this.preview, this.progress, this.error);
    this.strip = make("div", { class: "strip", id: `${tab}_gallery`, role: "group", "aria-label": "Pictures" });
    this.tools = make("div", { class: "tools" }, ...this.sendButtons());
    this.info = make("pre", { class: "infotext", id: `${tab}_infotext`, tabindex: "0" });
    this.infoBox = make("div", { class: "info", hidden: true },
      this.info, easel.iconButton("copy", "Copy the parameters", () => this.copyInfo()));
    root.append(this.stage, this.live, this.strip, this.tools, this.infoBox);
    this.select(null);
  }

  sendButtons() {
    const targets = [["img2img", "img2img"], ["inpaint", "Inpaint"], ["outpaint", "Outpaint"], ["extras", "Extras"], ["png_info", "PNG info"]];
    const buttons = targets.map(([target, name]) => {
      const again = target === "outpaint" && this.tab === "outpaint";
      const title = again ? "Grow this picture further: it becomes the one to start from" : `Send picture and parameters to ${name}`;
      const button = easel.iconButton("send", title, () => this.send(target), again ? "Grow further" : name);
      button.id = `${this.tab}_send_to_${target}`;
      return button;
    });
    const look = easel.iconButton("send", "X-ray: see how this picture came about, step by step", () => { if (this.shown) easel.xray.ofPicture(this.shown); }, "X-ray");
    look.id = `${this.tab}_xray`;
    buttons.push(look);
    if (this.tab === "txt2img") {
      const title = "Make this picture larger with the settings of hires fix";
      const button = easel.iconButton("send", title, () => this.upscale().catch((error) => easel.toast(error.message)), "Upscale");
      button.id = `${this.tab}_upscale`;
      buttons.push(button);
    }
    this.save = easel.make("a", { class: "tool download", title: "Save the file", "aria-label": "Save the file", download: "picture.png" },
      easel.make("i", { "aria-hidden": "true" }), "Save");
    const zip = easel.iconButton("download", "Save all pictures of this job as a ZIP", () => this.zip(), "ZIP");
    zip.id = `${this.tab}_zip`;
    const folder = easel.iconButton("open", "Open the picture's folder", () => this.openFolder(), "Folder");
    folder.id = `${this.tab}_open_folder`;
    folder.classList.add("open-folder");
    return [folder, this.save, zip, ...buttons];
  }

  address(picture) { return easel.url(`internal/pictures/${picture.id}?v=${picture.version}&client=${easel.client}`); }

  current() {
    const all = Array.from(this.jobs.values());
    return all.find((job) => ["running", "saving"].includes(job.status)) ?? all.find((job) => job.status === "queued") ?? null;
  }

  waiting() { return Array.from(this.jobs.values()).filter((job) => job.status === "queued").length; }
  lastInfotext() { return this.shown?.infotext ?? this.pictures[0]?.infotext; }

  update(job, past) {
    const before = this.jobs.get(job.id);
    const known = before ?? { pictures: [] };
    if (before && job.seq < before.seq) return;
    const merged = { ...known, ...job };
    this.jobs.set(job.id, merged);
    if (job.pictures && String(merged.pictures.map((each) => each.id)) !== String(known.pictures.map((each) => each.id))) this.setPictures(merged);
    const fresh = !past || before; // of the past only what this page saw beginning is news
    if (fresh) for (const sentence of job.notices.slice(known.notices?.length ?? 0)) easel.toast(sentence);
    const ended = ["done", "failed", "interrupted"].includes(job.status);
    if (job.status === "failed" && fresh && before?.status !== "failed") this.showError(job.error);
    if (!ended && !before) this.error.hidden = true;
    if (ended && before && !["done", "failed", "interrupted"].includes(before.status)) {
      this.live.textContent = `Job ${job.status}`;
      easel.habits.ended(this.tab, job.status);
    }
    this.showProgress();
  }

  forget(active) { // jobs that the server knows nothing of any more: it has another database
    for (const [id, job] of this.jobs) {
      if (!["done", "failed", "interrupted"].includes(job.status) && !active.includes(id)) this.jobs.set(id, { ...job, status: "interrupted" });
    }
    this.showProgress();
  }

  // A job's pictures as the server lists them. A script's sheet comes last, stands first, and may take the single pictures' place.
  setPictures(job) {
    const old = new Map(this.pictures.filter((picture) => picture.job === job.id).map((picture) => [picture.id, picture]));
    const entries = job.pictures.map((picture) => old.get(picture.id) ?? { ...picture, job: job.id });
    const news = entries.filter((picture) => !old.has(picture.id));
    const at = Math.max(this.pictures.findIndex((picture) => picture.job === job.id), 0);
    this.pictures = this.pictures.filter((picture) => picture.job !== job.id);
    this.pictures.splice(at, 0, ...entries);
    const newest = this.pictures.filter((picture) => picture.job === this.pictures[0].job).length;
    this.pictures = this.pictures.slice(0, Math.max(48, newest));
    for (const picture of news) picture.thumb = this.thumb(picture);
    this.strip.replaceChildren(...this.pictures.map((picture) => picture.thumb));
    if (!old.size || news[0]?.sheet) this.select(entries[0]);
  }

  thumb(picture) {
    const image = easel.make("img", { src: this.address(picture), alt: "", loading: "lazy" });
    const label = picture.sheet ? `Sheet of pictures, ${picture.width} by ${picture.height}` : `Picture with seed ${picture.seed}, ${picture.width} by ${picture.height}`;
    return easel.make("button", { type: "button", class: "thumb", "aria-label": label, title: label, onclick: () => this.select(picture) }, image);
  }

  select(picture) {
    this.shown?.thumb.removeAttribute("aria-current");
    this.shown = picture;
    this.image.hidden = !picture;
    this.infoBox.hidden = !picture;
    this.tools.classList.toggle("none", !picture);
    this.empty.hidden = Boolean(picture);
    if (!picture) return;
    picture.thumb.setAttribute("aria-current", "true");
    this.image.src = this.address(picture);
    this.image.alt = picture.infotext.split("\n")[0] || "Finished picture";
    this.info.textContent = picture.infotext;
    this.save.href = this.address(picture);
    this.save.download = `easel-${picture.id}-${picture.seed}${picture.ending}`;
  }

  showProgress() {
    const job = this.current();
    document.documentElement.classList.toggle(`busy-${this.tab}`, Boolean(job));
    this.progress.hidden = !job;
    if (!job) {
      this.preview.hidden = true;
      this.previewSeq = null;
      return;
    }
    const percent = Math.round(job.fraction * 100);
    this.bar.setAttribute("aria-valuenow", percent);
    this.bar.firstChild.style.width = `${percent}%`;
    this.words.textContent = this.describe(job, percent);
    this.bar.setAttribute("aria-valuetext", this.words.textContent);
    const quarter = Math.floor(percent / 25);
    if (quarter !== this.spoken) this.live.textContent = `${quarter * 25} percent`;
    this.spoken = quarter;
    if (job.preview_seq) this.fetchPreview(job);
    else this.preview.hidden = true;
  }

  describe(job, percent) {
    if (job.status === "queued" && easel.queue?.state.paused) return "The queue is paused";
    if (job.status === "queued") return job.ahead ? `Queued, ${job.ahead} ahead` : "Queued, next";
    if (job.status === "saving") return "Saving";
    if (job.stopping) return "Stopping after this step";
    if (!job.steps) return job.text || "Starting";
    const parts = [`${percent}%`];
    if (job.batches > 1) parts.push(`batch ${job.batch}/${job.batches}`);
    parts.push(`step ${job.step}/${job.steps}`);
    if (job.eta !== null && job.eta !== undefined) parts.push(`ETA ${easel.duration(job.eta)}`);
    if (this.waiting()) parts.push(`${this.waiting()} waiting`);
    return parts.join(" · ");
  }

  fetchPreview(job) { // off the page, swapped in when complete; one at a time, the latest wins
    const key = `${job.id}/${job.preview_seq}`;
    if (this.previewSeq === key) { this.preview.hidden = false; return; }
    if (this.loading) return;
    this.loading = true;
    const image = new Image();
    const settle = (shows) => {
      this.loading = false;
      const now = this.current();
      if (!shows || now?.id !== job.id) return;
      this.previewSeq = key;
      this.preview.src = image.src;
      this.preview.hidden = false;
      if (now.preview_seq !== job.preview_seq) this.fetchPreview(now);
    };
    image.onload = () => settle(true);
    image.onerror = () => settle(false);
    image.src = easel.url(`internal/jobs/${job.id}/preview.jpg?client=${easel.client}&s=${job.preview_seq}`);
  }

  showError(text) {
    this.errorText.textContent = easel.sentence(text);
    this.error.hidden = false;
  }

  send(target) {
    if (!this.shown) return;
    const text = target === "png_info" ? "" : this.shown.infotext;
    easel.sendTo(target, text, this.address(this.shown)).catch((error) => easel.toast(error.message));
  }

  async upscale() {
    const shown = this.shown;
    if (!shown) return;
    const kept = await easel.sendFile("internal/inputs", await (await fetch(this.address(shown))).blob());
    easel.fire(this.tab, "upscale", {
      client: easel.client, text: shown.infotext, image: kept.input, width: shown.width, height: shown.height, overrides: easel.overrides.of(this.tab),
    });
  }

  zip() {
    const ids = this.pictures.filter((picture) => picture.job === this.shown?.job).map((picture) => picture.id);
    easel.saveFile(easel.url(`internal/gallery/zip?ids=${ids}&client=${easel.client}`), "easel-pictures.zip");
  }

  async openFolder() {
    try {
      await easel.request(`internal/pictures/${this.shown.id}/folder`, { method: "POST" });
    } catch (error) {
      easel.toast(error.message);
    }
  }

  async copyInfo() {
    try {
      await navigator.clipboard.writeText(this.info.textContent);
      easel.toast("Parameters copied.");
    } catch { // only secure pages may use the clipboard: select the text instead
      getSelection().selectAllChildren(this.info);
    }
  }

  openLarge() {
    if (!this.shown) return;
    const move = (by) => {
      const at = this.pictures.indexOf(this.shown) + by;
      if (this.pictures[at]) { this.select(this.pictures[at]); stage.show(this.address(this.shown), this.image.alt); }
    };
    const stage = new ZoomStage(move, () => dialog.close());
    stage.show(this.address(this.shown), this.image.alt);
    const dialog = easel.dialog("Picture, large", "large", stage.root, easel.iconButton("close", "Close (Esc)", () => dialog.close()));
    const acts = { ArrowLeft: () => move(-1), ArrowRight: () => move(1), s: () => this.save.click(), ...stage.keys() };
    dialog.addEventListener("keydown", (event) => { if (!event.ctrlKey && !event.metaKey && !event.altKey) acts[event.key]?.(); });
  }
}

easel.duration = (seconds) => (seconds < 60 ? `${Math.max(1, Math.round(seconds))} s` : `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`);
easel.resultView = (root, tab) => { easel.results[tab] = new ResultView(root, tab); };
