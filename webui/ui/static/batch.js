// Several pictures to start from: a job for each, with the same settings, or with the prompts that each picture carries.
class Batch {
  constructor(tab, changed) {
    const make = easel.make;
    this.pictures = []; // { hash, node }
    this.changed = changed;
    const input = (id, label, more) => {
      const made = make("input", { type: "file", id: `${tab}_batch_${id}`, accept: "image/*", multiple: true, class: "file", "aria-label": label, ...more });
      made.addEventListener("change", () => { this.add(Array.from(made.files)).catch((error) => easel.toast(error.message)); made.value = ""; });
      return make("label", { class: "tool" }, label, made);
    };
    this.own = make("input", { type: "checkbox", id: `${tab}_batch_own` });
    this.list = make("div", { class: "pile" });
    this.root = make("div", { class: "batch", hidden: true },
      make("div", { class: "ways" }, input("files", "Add pictures", {}), input("folder", "Add a folder", { webkitdirectory: true }),
        make("button", { type: "button", class: "tool", id: `${tab}_batch_empty`, onclick: () => { this.pictures = []; this.show(); } }, "Take all away"),
        make("label", { class: "own" }, this.own, "Use each picture's own prompts")),
      this.list);
  }

  async add(files) {
    const pictures = files.filter((file) => file.type.startsWith("image/"));
    const others = files.length - pictures.length;
    if (others) easel.toast(others === 1 ? "1 file is no picture and was left out." : `${others} files are no pictures and were left out.`);
    for (const file of pictures) {
      const { input } = await easel.sendFile("internal/inputs", file);
      const image = easel.make("img", { src: easel.url(`internal/inputs/${input}`), alt: file.name, loading: "lazy" });
      const picture = { hash: input };
      picture.node = easel.make("button", { type: "button", title: `Take ${file.name} away`, onclick: () => this.remove(picture) }, image);
      this.pictures.push(picture);
      this.show();
    }
  }

  remove(picture) {
    this.pictures = this.pictures.filter((each) => each !== picture);
    this.show();
  }

  show() {
    this.list.replaceChildren(...this.pictures.map((picture) => picture.node));
    this.changed();
  }

  caption() { return this.pictures.length ? `${this.pictures.length} ${this.pictures.length === 1 ? "picture" : "pictures"}, a job for each` : "Drop pictures here, or add them"; }

  collect() {
    const images = this.pictures.map((picture) => picture.hash);
    return { image: images[0] ?? "", images, own: this.own.checked, mask: "", inpaint: false };
  }
}
