"""The page in Chinese: nothing that a person reads is left in English, on any tab."""

from pathlib import Path

from playwright.sync_api import Browser

from tests.browser.conftest import Person, free_port, serving

LEFT = """() => {
    const names = /^(txt2img|img2img|[A-Z0-9][\\w+#]*|[\\w.+-]+\\.\\w+|[^a-z]*|[\\d.,]+ ?[a-z]{1,2})$/;
    const found = new Set();
    const look = (text) => {
        const words = text.trim();
        const own = /[\\u4e00-\\u9fff]/.test(words) || names.test(words) || easel.language.plain.has(words);
        if (/[a-z]{3}/i.test(words) && !own) found.add(words);
    };
    const skipped = easel.language.LEFT + ', [role=option], option, a, kbd, .name';
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const parent = walker.currentNode.parentElement;
        if (parent.checkVisibility() && !parent.closest(skipped)) look(walker.currentNode.data);
    }
    for (const node of document.querySelectorAll('[placeholder], [title], [aria-label]')) {
        if (!node.checkVisibility() || node.closest('[translate=no]') || node.matches('.thumb')) continue;
        for (const name of ['placeholder', 'title', 'aria-label']) {
            look(node.getAttribute(name) ?? '');
        }
    }
    return Array.from(found);
}"""


def test_no_tab_shows_english_words_after_a_run(browser: Browser, tmp_path: Path) -> None:
    port = free_port()
    with serving(tmp_path, port):  # one of its own: prompts of others are English
        context = browser.new_context(viewport={"width": 1400, "height": 900}, locale="zh-CN")
        left = looked_through(Person(context, f"http://127.0.0.1:{port}/"))
        context.close()
    assert {tab: words for tab, words in left.items() if words} == {}


def looked_through(person: Person) -> dict[str, list[str]]:
    """Each tab with the English words that are left on it."""
    page = person.page
    person.write("txt2img_prompt", "zz")
    person.write("txt2img_steps", 2)
    person.make_picture("txt2img")
    page.click("#txt2img_xray")
    page.wait_for_selector("#xray_recording .xray-body[data-drawn]")
    left = {}
    for tab in page.evaluate("Object.keys(easel.tabNames)"):
        page.evaluate("tab => easel.openTab(tab)", tab)
        page.wait_for_timeout(1200)
        left[tab] = page.evaluate(LEFT)
    return left
