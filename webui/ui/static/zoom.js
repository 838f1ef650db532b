// A picture that can be looked at closely: 1 fits the window; the wheel, two fingers and + - zoom, a drag moves, a double click shows every pixel,
// 0 fits again, a click is done with it.
class ZoomStage {
  static STILL = 5; // pixels by which a click may move; what moves further is a drag
  static DOUBLE = 300; // milliseconds within which a second click makes one on the picture a double click

  constructor(swiped, clicked) { // swiped: is told -1 or 1 when a finger wipes over a picture that fits; clicked: is told of a click
    this.image = easel.make("img", { alt: "", draggable: "false" });
    this.root = easel.make("div", { class: "look", tabindex: "0", autofocus: true, "aria-label": "Picture: + and - zoom, arrows go on" }, this.image);
    this.root.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.root.addEventListener("dblclick", () => this.doubled());
    this.root.addEventListener("click", (event) => this.clicked(event, clicked));
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
    this.zoomAt(Math.exp(-event.deltaY / 400), event.clientX, event.clientY);
  }

  zoomAt(by, clientX, clientY) { // what lies under this place of the window stays there
    const box = this.root.getBoundingClientRect();
    const [x, y] = [clientX - box.left - box.width / 2, clientY - box.top - box.height / 2];
    const done = Math.min(32, Math.max(1, this.scale * by)) / this.scale;
    this.set(this.scale * done, x - (x - this.x) * done, y - (y - this.y) * done);
  }

  doubled() {
    clearTimeout(this.waiting);
    if (this.scale > 1) this.fit();
    else this.zoom(this.natural());
  }

  clicked(event, act) {
    if (this.dragged) return;
    if (!this.isPicture(event)) act();
    else if (event.detail === 1) this.waiting = setTimeout(act, ZoomStage.DOUBLE);
  }

  isPicture(event) { // or what is beside it
    const box = this.root.getBoundingClientRect();
    const { naturalWidth, naturalHeight } = this.image;
    const fitting = this.scale * Math.min(box.width / naturalWidth, box.height / naturalHeight);
    const [x, y] = [event.clientX - box.left - box.width / 2 - this.x, event.clientY - box.top - box.height / 2 - this.y];
    return Math.abs(x) <= naturalWidth * fitting / 2 && Math.abs(y) <= naturalHeight * fitting / 2;
  }

  watchDrags(swiped) {
    const fingers = new Map(); // those that are down, and where they are
    const middle = () => Array.from(fingers.values()).reduce(([x, y], each) => [x + each.clientX / fingers.size, y + each.clientY / fingers.size], [0, 0]);
    const spread = () => { const [one, two] = fingers.values(); return Math.hypot(one.clientX - two.clientX, one.clientY - two.clientY); };
    this.root.addEventListener("pointerdown", (event) => {
      if (!fingers.size) { this.from = event; this.dragged = false; }
      fingers.set(event.pointerId, event);
      this.root.setPointerCapture(event.pointerId);
    });
    this.root.addEventListener("pointermove", (event) => {
      if (!fingers.has(event.pointerId)) return;
      const [before, apart] = [middle(), fingers.size === 2 && spread()];
      fingers.set(event.pointerId, event);
      const now = middle();
      if (Math.hypot(event.clientX - this.from.clientX, event.clientY - this.from.clientY) > ZoomStage.STILL) this.dragged = true;
      if (apart) this.zoomAt(spread() / apart, ...now);
      if (this.scale > 1) this.set(this.scale, this.x + now[0] - before[0], this.y + now[1] - before[1]);
    });
    const lifted = (event) => {
      const alone = fingers.delete(event.pointerId) && !fingers.size;
      const moved = event.clientX - this.from?.clientX;
      if (alone && event.type === "pointerup" && this.scale === 1 && event.pointerType === "touch" && Math.abs(moved) > 60) swiped(moved < 0 ? 1 : -1);
    };
    this.root.addEventListener("pointerup", lifted);
    this.root.addEventListener("pointercancel", lifted);
  }

  // What the keys of a dialog around it do.
  keys() { return { "+": () => this.zoom(1.4), "=": () => this.zoom(1.4), "-": () => this.zoom(1 / 1.4), 0: () => this.fit() }; }
}
