// X-ray: another recording beside the one that is shown, at the same part of its way; its curves are faint lines in the charts.
class XrayCompare {
  constructor(steps) {
    const make = easel.make;
    this.steps = steps;
    this.told = null; // the other recording
    this.images = new Map(); // step -> promise of its strip
    this.choice = make("select", { id: "xray_compare", "aria-label": "Compare with another X-ray", onchange: () => this.steps.xray.try(this.open(this.choice.value)) });
    this.words = make("span", { class: "small", role: "status" });
    this.canvases = [];
    const titles = ["Noisy latents", "Predicted noise", "Predicted clean picture", "Guidance difference"];
    this.row = make("div", { class: "panels", hidden: true }, ...titles.map((title) => {
      const canvas = make("canvas", { role: "img", "aria-label": `The other one: ${title.toLowerCase()}` });
      this.canvases.push(canvas);
      return make("figure", {}, make("div", { class: "frame" }, canvas));
    }));
    this.root = make("div", { class: "compare-with" }, make("div", { class: "attention-head" }, make("strong", {}, "Compare with"), this.choice, this.words), this.row);
  }

  // The recordings that may be chosen: all but the one shown.
  list() {
    const others = this.steps.xray.known.filter((each) => each.kind === "recording" && each.id !== this.steps.told.id);
    if (this.told && !others.some((each) => each.id === this.told.id)) this.told = null;
    const options = [["", "Nothing"], ...others.map((each) => [each.id, each.title])];
    this.choice.replaceChildren(...options.map(([value, name]) => easel.make("option", { value }, name)));
    this.choice.value = this.told?.id ?? "";
    this.root.hidden = !others.length;
    this.row.hidden = !this.told;
  }

  async open(id) {
    this.images.clear();
    this.told = id ? await (await easel.request(this.steps.xray.address(`/${id}`))).json() : null;
    if (this.told && !this.told.steps.some((step) => step.kept)) {
      this.told = null;
      throw new Error("The other X-ray has no step yet; wait until it has begun.");
    }
    this.row.hidden = !this.told;
    this.words.textContent = "";
    this.steps.charts.draw(this.steps.told, this.told);
    this.steps.seek(this.steps.at);
  }

  strip(step) {
    if (!this.images.has(step)) {
      const image = new Image();
      image.src = easel.url(this.steps.xray.address(`/${this.told.id}/files/panels-${String(step).padStart(3, "0")}.webp`));
      this.images.set(step, image.decode().then(() => image));
    }
    return this.images.get(step);
  }

  async draw() {
    const { told } = this;
    if (!told) return;
    const [at, last] = [this.steps.at, this.steps.steps.length - 1];
    const here = Math.round((last ? at / last : 1) * (told.steps.length - 1));
    const kept = told.steps.slice(0, here + 1).reverse().find((each) => each.kept) ?? told.steps.find((each) => each.kept);
    const image = await this.strip(kept.step).catch(() => null);
    if (!image || this.told !== told || this.steps.at !== at) return;
    const width = image.width / 4;
    this.canvases.forEach((canvas, place) => {
      canvas.width = width;
      canvas.height = image.height;
      canvas.getContext("2d").drawImage(image, place * width, 0, width, image.height, 0, 0, width, image.height);
    });
    this.words.textContent = `step ${told.steps[here].step} of ${told.steps.length}`;
    this.row.dataset.drawn = told.steps[here].step;
  }
}
