// Below each result of a search the words around the first match. Sphinx would fetch the page for
// that, which a browser refuses for a page opened as a file; searchtexts.js has the texts.
const WIDTH = 240;
const asked = (new URLSearchParams(location.search).get("q") ?? "").toLowerCase().split(/\s+/).filter(Boolean);

function summary(page, anchor) {
  const sections = searchTexts[page] ?? [];
  const here = sections.filter(([id]) => id === anchor);
  const candidates = (here.length ? here : sections).map(([, text]) => text).filter(Boolean);
  const place = (text) => Math.min(...asked.map((word) => text.toLowerCase().indexOf(word)).filter((i) => i >= 0));
  const text = candidates.find((text) => isFinite(place(text))) ?? candidates[0];
  if (!text) return null;
  let start = isFinite(place(text)) ? Math.max(0, place(text) - WIDTH / 2) : 0;
  if (start) start = text.indexOf(" ", start) + 1;
  const end = start + WIDTH < text.length ? text.lastIndexOf(" ", start + WIDTH) : text.length;
  const paragraph = document.createElement("p");
  paragraph.className = "context";
  paragraph.textContent = (start ? "… " : "") + text.slice(start, end) + (end < text.length ? " …" : "");
  return paragraph;
}

new MutationObserver((changes) => {
  for (const item of changes.flatMap((change) => [...change.addedNodes])) {
    const link = item.tagName === "LI" && item.querySelector("a");
    if (!link || item.querySelector("span")) continue; // a result of the library describes itself
    const [page, anchor] = link.getAttribute("href").split(".html");
    item.append(summary(page, anchor?.slice(1)) ?? "");
  }
}).observe(document.getElementById("search-results"), { childList: true, subtree: true });
