// A picture that can be looked at closely: 1 fits the window; the wheel and + - zoom, a drag moves, a double click shows every pixel, 0 fits again.
class ZoomStage {
  constructor(swiped) { // swiped: is told -1 or 1 when a finger wipes over a picture that fits
    this.image = easel.make("img", { alt: "", draggable: "false" });
    this.root = easel.make("div", { class: "look", tabindex: "0", autofocus: true, "aria-label": "Picture: + and - zoom, arrows go on" }, this.image);
    this.root.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.root.addEventListener("dblclick", () => (this.scale > 1 ? this.fit() : this.zoom(this.natural())));
    this.watchDrags(swiped);
    this.fit();
  }

  show(address, words) {
    this.fit();
    this.image.src = address;
    this.image.alt = words;
  }

  fit() { this.set(1, 0, 0); }
  zoom(by) { this.set(this.scale * by, this.x * by, this.y * by); }

  set(scale, x, y) {
    this.scale = Math.min(32, Math.max(1, scale));
    [this.x, this.y] = this.scale === 1 ? [0, 0] : [x, y];
    this.image.style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
    this.image.style.imageRendering = this.scale > 4 ? "pixelated" : "";
    this.root.classList.toggle("zoomed", this.scale > 1);
  }

  natural() { // as many times the fitting size as shows one pixel of it on one of the screen, at least twice
    const { width, height } = this.root.getBoundingClientRect();
    return Math.max(2, 1 / Math.min(width / this.image.naturalWidth, height / this.image.naturalHeight));
  }

  wheel(event) {
    event.preventDefault();
    const box = this.root.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2];
    const by = Math.min(32, Math.max(1, this.scale * Math.exp(-event.deltaY / 400))) / this.scale;
    this.set(this.scale * by, x - (x - this.x) * by, y - (y - this.y) * by);
  }

  watchDrags(swiped) {
    this.root.addEventListener("pointerdown", (event) => {
      this.held = { x: event.clientX, y: event.clientY, at: [this.x, this.y] };
      this.root.setPointerCapture(event.pointerId);
    });
    this.root.addEventListener("pointermove", (event) => {
      if (this.held && this.scale > 1) this.set(this.scale, this.held.at[0] + event.clientX - this.held.x, this.held.at[1] + event.clientY - this.held.y);
    });
    this.root.addEventListener("pointerup", (event) => {
      const moved = this.held ? event.clientX - this.held.x : 0;
      this.held = null;
      if (this.scale === 1 && event.pointerType === "touch" && Math.abs(moved) > 60) swiped(moved < 0 ? 1 : -1);
    });
  }

  // What the keys of a dialog around it do.
  keys() { return { "+": () => this.zoom(1.4), "=": () => this.zoom(1.4), "-": () => this.zoom(1 / 1.4), 0: () => this.fit() }; }
}
