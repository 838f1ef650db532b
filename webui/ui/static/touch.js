// Fingers that scroll the page. Browsers move a slider as soon as it is touched: when the touch turns out to scroll, it is set back.
easel.watchTouches = () => {
  let touched = null;
  document.addEventListener("pointerdown", (event) => {
    const slider = event.pointerType === "touch" ? event.target.closest?.("input[type=range]") : null;
    touched = slider ? { slider, value: slider.value } : null;
  }, true);
  document.addEventListener("pointercancel", () => { // the browser has taken the touch to scroll with
    if (!touched || touched.slider.value === touched.value) return;
    touched.slider.value = touched.value;
    touched.slider.dispatchEvent(new Event("input", { bubbles: true }));
  }, true);
};
