// The picture to start from. kind "mask": a mask or colours are painted over it, at the picture's own resolution, each on a layer of its
// own; kind "sides": what outpainting adds is shown around it and its edges can be dragged. Pictures go to the server once, untouched, and
// are named by hash. In the mode "Batch" there are several pictures, and a job for each.
class CanvasView {
  constructor(root, tab, kind) {
    Object.assign(this, { root, tab, kind, hash: "", mode: "img2img", brush: 32, erasing: false, sides: [0, 0, 0, 0] });
    this.wipe();
    root.dataset.tab = tab;
    root.dataset.kind = kind;
    const make = easel.make;
    this.input = make("input", { type: "file", id: `${tab}_file`, accept: "image/*", class: "file", "aria-label": "Open a picture file" });
    this.input.addEventListener("change", () => { if (this.input.files[0]) this.try(this.input.files[0]); this.input.value = ""; });
    this.image = make("img", { alt: "The picture to start from", draggable: "false" });
    this.mask = make("canvas", { class: "mask", width: 1, height: 1, "aria-label": "Mask: paint what shall change" });
    this.ring = make("div", { class: "ring", hidden: true });
    this.frame = make("div", { class: "frame", hidden: true }, this.image, this.mask, this.ring);
    this.hint = make("label", { class: "hint" }, make("i", { "aria-hidden": "true" }), make("p", {}, "Drop or paste a picture here, or click to open one."));
    this.hint.append(this.input);
    this.area = make("div", { class: "area", tabindex: "0", "aria-label": "Canvas" }, this.hint, this.frame);
    if (kind === "mask") this.batch = new Batch(tab, () => this.show());
    if (this.batch) this.area.append(this.batch.root);
    this.caption = make("div", { class: "caption", role: "status" });
    root.append(this.toolbar(), this.area, this.caption);
    this.pen = this.mask.getContext("2d", { willReadFrequently: true });
    if (kind === "mask") { this.watchPen(); this.zoom.watch(); }
    else this.makeHandles();
    this.watchKeys();
    document.addEventListener("paste", (event) => this.pasted(event));
    this.show();
  }

  toolbar() {
    const button = (icon, label, act) => {
      const made = easel.iconButton(icon, label, act);
      made.id = `${this.tab}_${icon}`;
      return made;
    };
    const bar = easel.make("div", { class: "toolbar", role: "toolbar", "aria-label": "Canvas tools" });
    if (this.kind === "mask") {
      this.tools = [button("brush", "Brush (B)", () => this.erase(false)), button("eraser", "Eraser (E, or the right mouse button)", () => this.erase(true))];
      this.sizer = easel.make("input", { type: "range", min: 1, max: 200, value: this.brush, class: "size", id: `${this.tab}_brush_size`,
        "aria-label": "Brush size", title: "Brush size ([ and ])", oninput: () => this.resize(Number(this.sizer.value)) });
      this.color = easel.make("input", { type: "color", value: "#d03020", id: `${this.tab}_brush_color`, class: "color",
        "aria-label": "Colour of the brush", title: "Colour (Alt+click takes one from the picture)" });
      this.zoom = new CanvasZoom(this);
      this.maskFile = easel.make("input", { type: "file", id: `${this.tab}_mask_file`, accept: "image/*", class: "file", tabindex: "-1", "aria-label": "Open a mask file" });
      this.maskFile.addEventListener("change", () => { if (this.maskFile.files[0]) this.loadMask(this.maskFile.files[0]).catch((error) => easel.toast(error.message)); this.maskFile.value = ""; });
      const paint = easel.make("div", { class: "paint" }, ...this.tools, this.zoom.tool, this.color, this.sizer,
        button("undo", "Undo (Ctrl+Z)", () => this.undo()), button("redo", "Redo (Ctrl+Y)", () => this.redo()),
        button("clear", "Clear all that is painted", () => this.act({ kind: "clear" })), button("invert", "Invert the mask (Shift+V)", () => this.act({ kind: "invert" })),
        button("stencil", "Load a mask from a file: white is repainted", () => this.maskFile.click()), this.maskFile, ...this.zoom.tools);
      bar.append(paint);
      this.erase(false);
    }
    bar.append(easel.make("span", { class: "stretch" }), button("open", "Open another picture", () => this.input.click()),
      button("bin", "Take the picture away", () => this.empty()));
    return bar;
  }

  get sketching() { return this.mode.endsWith("ketch"); }
  get inpainting() { return this.mode.startsWith("Inpaint"); }
  get painting() { return this.kind === "mask" && (this.sketching || this.inpainting); }
  get layer() { return this.layers[this.sketching ? "sketch" : "mask"]; }
  get done() { return this.layer.done; }
  get undone() { return this.layer.undone; }

  wipe() { this.layers = { mask: { done: [], undone: [] }, sketch: { done: [], undone: [] } }; }

  take(file) { return this.mode === "Batch" ? this.batch.add([file]) : this.load(file); }

  try(source) { this.load(source).catch((error) => easel.toast(error.message)); }

  pasted(event) {
    const file = Array.from(event.clipboardData?.files ?? []).find((item) => item.type.startsWith("image/"));
    if (file && this.root.offsetParent) { event.preventDefault(); this.take(file).catch((error) => easel.toast(error.message)); }
  }

  async load(source, keepSize = false) {
    const file = typeof source === "string" ? await (await easel.request(source)).blob() : source;
    const kept = await easel.sendFile("internal/inputs", file);
    this.image.src = easel.url(`internal/inputs/${kept.input}`);
    await this.image.decode();
    this.hash = kept.input;
    [this.width, this.height] = [this.image.naturalWidth, this.image.naturalHeight];
    [this.mask.width, this.mask.height] = [this.width, this.height];
    this.wipe(); // an old mask never stays on a new picture
    this.zoom?.fit();
    this.resize(Math.max(4, Math.round(Math.min(this.width, this.height) / 8)));
    this.show();
    if (!keepSize) easel.fire(this.tab, "image", { width: this.width, height: this.height });
  }

  // In place of what is painted: white is repainted; of a file that is see-through, what is not.
  async loadMask(file) {
    const picture = await createImageBitmap(file).catch(() => { throw new Error("This is no picture that the browser can read; use PNG, JPEG or WebP."); });
    const mask = easel.make("canvas", { width: this.width, height: this.height });
    const pen = mask.getContext("2d");
    pen.drawImage(picture, 0, 0, this.width, this.height);
    const pixels = pen.getImageData(0, 0, this.width, this.height);
    const { data } = pixels;
    let clear = false;
    for (let i = 3; i < data.length && !clear; i += 4) clear = data[i] < 255;
    for (let i = 0; i < data.length; i += 4) if (!clear) data[i + 3] = 0.299 * data[i] + 0.587 * data[i + 1] + 0.114 * data[i + 2];
    pen.putImageData(pixels, 0, 0);
    if (Math.abs(picture.width * this.height - picture.height * this.width) > Math.max(picture.width, this.width)) {
      easel.toast(`The mask is ${picture.width} × ${picture.height}, the picture ${this.width} × ${this.height}: the mask was stretched.`);
    }
    this.act({ kind: "mask", mask });
  }

  empty() {
    this.hash = "";
    this.wipe();
    this.show();
  }

  size() { return this.hash ? [Math.round(this.width / 8) * 8, Math.round(this.height / 8) * 8] : null; }

  async collect() {
    if (this.kind === "mask" && this.mode === "Batch") return this.batch.collect();
    if (!this.painting || !this.hash) return { image: this.hash, mask: "", inpaint: this.painting && this.inpainting };
    const mask = this.inpainting ? this.maskPicture() : null;
    return { image: await this.sketched(), mask: mask ? await this.sent(mask) : "", inpaint: this.inpainting };
  }

  async sketched() { // the hash of the picture with the colours that are painted over it
    if (!this.sketching || !this.done.length) return this.hash;
    const canvas = easel.make("canvas", { width: this.width, height: this.height });
    const pen = canvas.getContext("2d");
    pen.drawImage(this.image, 0, 0);
    pen.drawImage(this.mask, 0, 0);
    return this.sent(canvas);
  }

  async sent(canvas) {
    const blob = await new Promise((resolve) => { canvas.toBlob(resolve, "image/png"); });
    return (await easel.sendFile("internal/inputs", blob)).input;
  }

  maskPicture() { // white where painted, black elsewhere; strokes without a grey rim, a file's greys as they are; null if nothing is painted
    const greys = this.done.some((act) => act.kind === "mask");
    const pixels = this.pen.getImageData(0, 0, this.width, this.height);
    let painted = false;
    for (let i = 0; i < pixels.data.length; i += 4) {
      const alpha = pixels.data[i + 3];
      const on = greys ? alpha : alpha > 127 ? 255 : 0;
      painted ||= on > 0;
      pixels.data.fill(on, i, i + 3);
      pixels.data[i + 3] = 255;
    }
    if (!painted) return null;
    const canvas = easel.make("canvas", { width: this.width, height: this.height });
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    return canvas;
  }

  setMode(mode) { this.mode = mode; this.show(); }
  setSides(sides) { this.sides = sides.map((pixels) => Math.max(0, Number(pixels) || 0)); this.show(); }

  show() {
    const many = this.kind === "mask" && this.mode === "Batch";
    const here = Boolean(this.hash) && !many;
    this.hint.hidden = here || many;
    this.frame.hidden = !here;
    if (this.kind === "mask") {
      this.batch.root.hidden = !many;
      this.root.dataset.mode = this.mode;
      this.root.classList.toggle("painting", this.painting);
      if (!this.painting) this.zoom.fit();
      document.documentElement.classList.toggle("inpainting", this.inpainting);
    }
    this.root.classList.toggle("none", !here);
    if (many) { this.caption.textContent = this.batch.caption(); return; }
    if (!here) { this.caption.textContent = ""; return; }
    const [left, right, top, bottom] = this.kind === "sides" ? this.sides : [0, 0, 0, 0];
    const [width, height] = [this.width + left + right, this.height + top + bottom];
    this.frame.style.setProperty("--width", width);
    this.frame.style.setProperty("--height", height);
    for (const layer of [this.image, this.mask]) {
      Object.assign(layer.style, { left: `${(100 * left) / width}%`, top: `${(100 * top) / height}%`, width: `${(100 * this.width) / width}%`, height: `${(100 * this.height) / height}%` });
    }
    this.caption.textContent = this.kind === "sides" ? `Picture ${this.width} × ${this.height} → final size ${width} × ${height}` : `${this.width} × ${this.height}`;
    const large = this.kind === "sides" && Math.max(width, height) > easel.LARGEST;
    if (large) this.caption.append(easel.make("span", { class: "too-large" }, `Too large: at most ${easel.LARGEST} pixels a side can be made.`));
    this.repaint();
  }

  // --- Painting: a list of acts, replayed ------------------------------------------------------------------------------

  act(act) {
    this.done.push(act);
    this.layer.undone = [];
    this.repaint();
  }

  undo() { if (this.done.length) { this.undone.push(this.done.pop()); this.repaint(); } }
  redo() { if (this.undone.length) { this.done.push(this.undone.pop()); this.repaint(); } }

  erase(erasing) {
    this.erasing = erasing;
    if (this.zoom?.hand) this.zoom.useHand(false);
    this.tools?.forEach((tool, i) => tool.setAttribute("aria-pressed", String(Boolean(i) === erasing)));
  }

  resize(brush) {
    this.brush = Math.min(Math.max(brush, 1), 512);
    if (!this.sizer) return;
    this.sizer.max = Math.max(64, Math.round(Math.min(this.width ?? 512, this.height ?? 512) / 2));
    this.sizer.value = this.brush;
  }

  repaint() {
    this.pen.globalCompositeOperation = "source-over";
    this.pen.clearRect(0, 0, this.mask.width, this.mask.height);
    for (const act of this.done) this.perform(act);
  }

  perform(act) {
    const pen = this.pen;
    pen.fillStyle = pen.strokeStyle = act.color ?? this.maskColor();
    if (act.kind === "clear") pen.clearRect(0, 0, this.mask.width, this.mask.height);
    if (act.kind === "invert") {
      pen.globalCompositeOperation = "source-out";
      pen.fillRect(0, 0, this.mask.width, this.mask.height);
    }
    if (act.kind === "mask") {
      pen.fillRect(0, 0, this.mask.width, this.mask.height);
      pen.globalCompositeOperation = "destination-in";
      pen.drawImage(act.mask, 0, 0);
    }
    if (act.kind === "stroke") this.stroke(act, 0);
    pen.globalCompositeOperation = "source-over";
  }

  maskColor() { return getComputedStyle(this.root).getPropertyValue("--mask-color").trim() || "#e4572e"; }

  takeColor([x, y]) { // of the picture, as it is painted over
    const canvas = easel.make("canvas", { width: 1, height: 1 });
    const pen = canvas.getContext("2d");
    for (const layer of [this.image, this.mask]) pen.drawImage(layer, -Math.floor(x), -Math.floor(y));
    const channels = Array.from(pen.getImageData(0, 0, 1, 1).data.slice(0, 3));
    this.color.value = `#${channels.map((each) => each.toString(16).padStart(2, "0")).join("")}`;
  }

  stroke(act, from) {
    const pen = this.pen;
    pen.globalCompositeOperation = act.erasing ? "destination-out" : "source-over";
    pen.lineCap = pen.lineJoin = "round";
    pen.lineWidth = act.size;
    pen.beginPath();
    act.points.slice(Math.max(0, from - 1)).forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
    const [x, y] = act.points.at(-1);
    pen.lineTo(x, y + 0.01); // a single click is a dot
    pen.stroke();
    pen.globalCompositeOperation = "source-over";
  }

  point(event) {
    const box = this.mask.getBoundingClientRect();
    return [((event.clientX - box.left) * this.mask.width) / box.width, ((event.clientY - box.top) * this.mask.height) / box.height];
  }

  watchPen() {
    let act = null;
    const mask = this.mask;
    mask.addEventListener("contextmenu", (event) => { if (this.painting) event.preventDefault(); });
    mask.addEventListener("pointerdown", (event) => {
      if (!this.painting || event.button > 2) return;
      event.preventDefault();
      this.area.focus({ preventScroll: true });
      if (this.zoom.takes(event)) { // what one finger has drawn before the second came was not meant
        if (act) { this.done.splice(this.done.indexOf(act), 1); this.repaint(); }
        act = null;
        return;
      }
      if (this.sketching && event.altKey) { this.takeColor(this.point(event)); return; }
      mask.setPointerCapture(event.pointerId); // a stroke may leave the picture and come back
      act = { kind: "stroke", size: this.brush, erasing: this.erasing || event.button === 2, points: [this.point(event)] };
      if (this.sketching) act.color = this.color.value;
      this.pen.strokeStyle = act.color ?? this.maskColor();
      this.done.push(act);
      this.layer.undone = [];
      this.stroke(act, 0);
    });
    mask.addEventListener("pointermove", (event) => {
      this.moveRing(event);
      if (!act) return;
      const from = act.points.length;
      const events = event.getCoalescedEvents?.() ?? [];
      act.points.push(...(events.length ? events : [event]).map((each) => this.point(each)));
      this.stroke(act, from);
    });
    for (const end of ["pointerup", "pointercancel"]) mask.addEventListener(end, () => { if (act) this.repaint(); act = null; }); // as undo and redo draw it
    mask.addEventListener("pointerleave", () => { this.ring.hidden = true; });
  }

  moveRing(event) {
    const box = this.frame.getBoundingClientRect();
    const { scale } = this.zoom;
    const size = (this.brush * this.mask.offsetWidth) / this.mask.width;
    Object.assign(this.ring.style, { left: `${(event.clientX - box.left) / scale}px`, top: `${(event.clientY - box.top) / scale}px`, width: `${size}px`, height: `${size}px`,
      borderWidth: `${1.5 / scale}px` });
    this.ring.hidden = !this.painting;
  }

  watchKeys() {
    this.root.addEventListener("keydown", (event) => {
      const key = event.key.toLowerCase();
      const command = event.ctrlKey || event.metaKey;
      const acts = command
        ? { z: () => (event.shiftKey ? this.redo() : this.undo()), y: () => this.redo() }
        : { b: () => this.erase(false), e: () => this.erase(true), "[": () => this.resize(this.brush * 0.8 - 1), "]": () => this.resize(this.brush * 1.25 + 1), ...this.zoom?.keys() };
      if (!command && event.target === this.area && this.painting) acts[" "] = () => this.zoom.hold(true);
      if (!command && event.shiftKey && this.mode === "Inpaint") acts.v = () => this.act({ kind: "invert" });
      if (!acts[key]) return;
      event.preventDefault();
      acts[key]();
    });
  }

  // --- Sides: four handles, snapping to 8 pixels -----------------------------------------------------------------------

  makeHandles() {
    ["left", "right", "top", "bottom"].forEach((side, i) => {
      const handle = easel.make("div", { class: `handle ${side}`, title: `Drag to extend: ${side}` });
      const upright = i < 2;
      const sign = i % 2 ? 1 : -1;
      let start = null;
      handle.addEventListener("pointerdown", (event) => {
        event.preventDefault();
        handle.setPointerCapture(event.pointerId);
        const box = this.frame.getBoundingClientRect();
        const width = this.width + this.sides[0] + this.sides[1];
        start = { at: upright ? event.clientX : event.clientY, pixels: this.sides[i], scale: width / box.width };
      });
      handle.addEventListener("pointermove", (event) => {
        if (!start) return;
        const moved = ((upright ? event.clientX : event.clientY) - start.at) * sign * start.scale;
        const sides = this.sides.slice();
        sides[i] = Math.min(Math.max(0, Math.round((start.pixels + moved) / 8) * 8), 1024);
        this.setSides(sides);
      });
      for (const end of ["pointerup", "pointercancel"]) handle.addEventListener(end, () => { // a call or a gesture of the system may take the finger away
        if (start) easel.fire(this.tab, "sides", { sides: this.sides });
        start = null;
      });
      this.frame.append(handle);
    });
  }
}

easel.canvasView = (root, tab, kind) => { easel.canvases[tab] = new CanvasView(root, tab, kind); };
