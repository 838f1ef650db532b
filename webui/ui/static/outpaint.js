// Outpaint: the sides that bring a picture to a shape by growing alone, shared by both ends.
easel.GROWN = [[1, 1], [4, 3], [3, 2], [16, 9], [2, 1], [2, 3], [9, 16]];
easel.LARGEST = 4096; // pixels of a side that can be made

// [left, right, top, bottom] in steps of 8 pixels.
easel.sidesToShape = (width, height, [across, up]) => {
  const missing = (now, wanted) => Math.max(0, Math.round((wanted - now) / 8) * 8);
  const split = (pixels) => [Math.floor(pixels / 16) * 8, pixels - Math.floor(pixels / 16) * 8];
  return [...split(missing(width, (height * across) / up)), ...split(missing(height, (width * up) / across))];
};

easel.growView = (root) => {
  for (const [across, up] of easel.GROWN) {
    const label = `Grow to ${across}:${up}`;
    const box = easel.make("i", { "aria-hidden": "true", style: `width: ${Math.min(15, (15 * across) / up)}px; aspect-ratio: ${across} / ${up}` });
    root.append(easel.make("button", { type: "button", class: "tool shape", title: label, "aria-label": label, "data-shape": `${across}:${up}`, onclick: () => {
      const canvas = easel.canvases.outpaint;
      if (!canvas.hash) easel.toast("Choose a picture first: open one, drop one here, or send one from another tab.");
      else easel.fire("outpaint", "sides", { sides: easel.sidesToShape(canvas.width, canvas.height, [across, up]) });
    } }, box, `${across}:${up}`));
  }
};
