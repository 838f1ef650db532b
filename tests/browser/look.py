"""What a picky designer would measure: contrast of every text, words that are cut off. Scripts for the page."""

# Texts that are hard to read: WCAG 2.2's contrast (1.4.3), 4.5, or 3 for large ones, of what is seen against what lies behind it. Disabled
# controls are exempt there. Texts over pictures have a ground of their own, which is taken as lying on mid-grey.
CONTRAST = """() => {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 1;
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    const known = new Map();
    const channels = (color) => {
        if (!known.has(color)) {
            pen.clearRect(0, 0, 1, 1);
            pen.fillStyle = color;
            pen.fillRect(0, 0, 1, 1);
            const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
            known.set(color, [r, g, b, a / 255]);
        }
        return known.get(color);
    };
    const over = ([r, g, b, a], ground) => [r, g, b].map((value, i) => value * a + ground[i] * (1 - a));
    const parents = (node) => {
        const all = [];
        for (let each = node; each; each = each.parentElement) all.push(each);
        return all.reverse();
    };
    const ground = (node) => {
        let seen = [255, 255, 255];
        for (const each of parents(node)) {
            if (each.querySelector(":scope > img:not([hidden])")?.checkVisibility() && each !== node) seen = [128, 128, 128];
            seen = over(channels(getComputedStyle(each).backgroundColor), seen);
        }
        return seen;
    };
    const opacity = (node) => parents(node).reduce((all, each) => all * Number(getComputedStyle(each).opacity), 1);
    const light = (color) => color.reduce((sum, value, i) => {
        const part = value / 255;
        return sum + [0.2126, 0.7152, 0.0722][i] * (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    }, 0);
    const contrast = (one, other) => {
        const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
        return (high + 0.05) / (low + 0.05);
    };
    const found = new Map();
    const look = (node, words, style) => {
        const behind = ground(node);
        const own = channels(style.color);
        const strength = opacity(node) * (style === getComputedStyle(node) ? 1 : Number(style.opacity));
        const ratio = contrast(over([...own.slice(0, 3), own[3] * strength], behind), behind);
        const size = parseFloat(style.fontSize);
        const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
        if (ratio >= (large ? 3 : 4.5)) return;
        const place = `${node.tagName.toLowerCase()}.${node.className || node.closest("[class]")?.className}`.slice(0, 80);
        if (!found.has(place)) found.set(place, `${ratio.toFixed(2)} ${place} in #${node.closest("[id]")?.id}: ${words.slice(0, 40)}`);
    };
    const idle = (node) => node.closest(":disabled, [aria-disabled=true]") || getComputedStyle(node).pointerEvents === "none";
    const shown = (node) => node.checkVisibility({ opacityProperty: true, visibilityProperty: true }) && !idle(node);
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const node = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim() || node.closest("script, style, svg, option, .spoken, textarea") || !shown(node)) continue;
        const style = getComputedStyle(node);
        if (parseFloat(style.fontSize) > 0) look(node, walker.currentNode.data.trim(), style);
    }
    const wordless = "[type=range], [type=checkbox], [type=radio], [type=file], [type=color]";
    for (const node of document.querySelectorAll(`input:not(${wordless}), textarea, select`)) {
        if (!shown(node)) continue;
        if (node.value) look(node, `value ${node.value}`, getComputedStyle(node));
        if (node.placeholder && !node.value) look(node, `placeholder ${node.placeholder}`, getComputedStyle(node, "::placeholder"));
    }
    return Array.from(found.values());
}"""

# Words on buttons, labels and captions that their box cuts off; things beyond the page's right edge.
CUT_OFF = """() => {
    const found = [];
    const scrolls = ".strip, .family, .frames, .xray-tabs, .xray-tokens, .bar-row, .study, table";
    const skipped = "script, style, svg, option, textarea, pre, .spoken, .sr-only, .tabs, [translate=no], .options, .infotext, .about-job";
    for (const node of document.querySelectorAll("button, label, span, strong, p, a, summary, h2, h3, figcaption, td, th")) {
        if (!node.checkVisibility() || node.closest(skipped) || !node.textContent.trim()) continue;
        const style = getComputedStyle(node);
        if (parseFloat(style.fontSize) === 0) continue;
        const box = node.getBoundingClientRect();
        const cut = ["hidden", "clip"].includes(style.overflowX) && node.scrollWidth > node.clientWidth + 1;
        const tall = ["hidden", "clip"].includes(style.overflowY) && node.scrollHeight > node.clientHeight + 3 && node.clientHeight > 0;
        const place = `${node.tagName.toLowerCase()}.${node.className} in #${node.closest("[id]")?.id}`;
        const name = `${place}: ${node.textContent.trim().slice(0, 40)}`;
        if (cut || tall) found.push(`cut off: ${name}`);
        if (!node.closest(scrolls) && box.width && box.right > document.documentElement.clientWidth + 1) found.push(`beyond: ${name}`);
    }
    return found;
}"""
