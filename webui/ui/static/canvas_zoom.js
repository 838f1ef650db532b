// A canvas that is painted on can be looked at closely: Ctrl and the wheel, two fingers and + - zoom, 0 fits; the hand (V), Space or the middle
// button move it. The frame is transformed, so that places of the window are places of the picture as before.
class CanvasZoom {
  static MOST = 32; // times the fitting size

  constructor(canvas) {
    Object.assign(this, { canvas, hand: false, held: false, fingers: new Map(), drag: null }); // drag: the last event of the pointer that moves the picture
    this.tool = this.button("move", "Move the picture (V, or hold Space)", () => this.useHand(!this.hand));
    this.tools = [this.button("zoom-out", "Smaller (- or Ctrl and the wheel)", () => this.zoom(1 / 1.4)), this.button("zoom-in", "Larger (+ or Ctrl and the wheel)", () => this.zoom(1.4)),
      this.button("fit", "Fit the picture (0)", () => this.fit())];
  }

  button(icon, label, act) {
    const made = easel.iconButton(icon, label, act);
    made.id = `${this.canvas.tab}_${icon}`;
    return made;
  }

  watch() {
    const { area } = this.canvas;
    area.addEventListener("wheel", (event) => { // two fingers on a touchpad are told as Ctrl and the wheel
      if (!event.ctrlKey || !this.canvas.painting) return;
      event.preventDefault();
      this.zoomAt(Math.exp(-event.deltaY / 400), event.clientX, event.clientY);
    }, { passive: false });
    area.addEventListener("pointermove", (event) => this.moved(event));
    for (const end of ["pointerup", "pointercancel"]) area.addEventListener(end, (event) => this.lifted(event));
    area.addEventListener("keyup", (event) => { if (event.key === " ") this.hold(false); });
    area.addEventListener("blur", () => this.hold(false));
    this.fit();
  }

  useHand(hand) { this.hand = hand; this.show(); }
  hold(held) { this.held = held; this.show(); }

  show() {
    this.tool.setAttribute("aria-pressed", String(this.hand));
    this.canvas.root.classList.toggle("moving", this.hand || this.held);
  }

  fit() { this.set(1, 0, 0); }
  zoom(by) {
    const box = this.canvas.area.getBoundingClientRect();
    this.zoomAt(by, box.left + box.width / 2, box.top + box.height / 2);
  }

  zoomAt(by, clientX, clientY) { // what lies under this place of the window stays there
    const box = this.canvas.frame.getBoundingClientRect();
    const done = Math.min(CanvasZoom.MOST, Math.max(1, this.scale * by)) / this.scale;
    this.set(this.scale * done, this.x + (clientX - box.left - box.width / 2) * (1 - done), this.y + (clientY - box.top - box.height / 2) * (1 - done));
  }

  set(scale, x, y) {
    const { frame, image } = this.canvas;
    const within = (place, side) => Math.min(Math.max(place, (-scale * side) / 2), (scale * side) / 2); // never out of sight
    [this.scale, this.x, this.y] = scale > 1 ? [scale, within(x, frame.offsetWidth), within(y, frame.offsetHeight)] : [1, 0, 0];
    frame.style.transform = this.scale > 1 ? `translate(${this.x}px, ${this.y}px) scale(${this.scale})` : "";
    frame.classList.toggle("close", this.scale * image.offsetWidth > 4 * (this.canvas.width ?? Infinity));
  }

  // Whether this pointer moves or zooms the picture instead of painting; a second finger does.
  takes(event) {
    if (event.pointerType === "touch") this.fingers.set(event.pointerId, event);
    const moves = event.button === 1 || (event.button === 0 && (this.hand || this.held));
    if (moves && this.fingers.size < 2) {
      this.drag = event;
      event.target.setPointerCapture(event.pointerId); // the picture may be moved beyond the canvas
    }
    return moves || this.fingers.size > 1;
  }

  moved(event) {
    if (this.fingers.size > 1 && this.fingers.has(event.pointerId)) this.pinched(event);
    else if (this.drag?.pointerId === event.pointerId) {
      this.set(this.scale, this.x + event.clientX - this.drag.clientX, this.y + event.clientY - this.drag.clientY);
      this.drag = event;
    }
    if (this.fingers.has(event.pointerId)) this.fingers.set(event.pointerId, event);
  }

  pinched(event) {
    const seen = () => {
      const [one, two] = this.fingers.values();
      return { x: (one.clientX + two.clientX) / 2, y: (one.clientY + two.clientY) / 2, apart: Math.hypot(one.clientX - two.clientX, one.clientY - two.clientY) || 1 };
    };
    const before = seen();
    this.fingers.set(event.pointerId, event);
    const now = seen();
    this.set(this.scale, this.x + now.x - before.x, this.y + now.y - before.y);
    this.zoomAt(now.apart / before.apart, now.x, now.y);
  }

  lifted(event) {
    this.fingers.delete(event.pointerId);
    if (this.drag?.pointerId === event.pointerId) this.drag = null;
  }

  keys() { return { "+": () => this.zoom(1.4), "=": () => this.zoom(1.4), "-": () => this.zoom(1 / 1.4), 0: () => this.fit(), v: () => this.useHand(!this.hand) }; }
}
