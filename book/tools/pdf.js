// What becomes of a page before it is printed. ``part`` is "page" or "appendix"; ``targets`` are the
// ids that other pages, or the outline, lead to: Chromium only remembers those that a link names.
// ``other`` is the address of the part that links lead to from here.
([part, targets, other]) => {
  document.documentElement.dataset.theme = "light";
  document.querySelectorAll("img[loading]").forEach(e => (e.loading = "eager"));
  const article = document.querySelector("article.bd-article");
  const all = selector => [...article.querySelectorAll(selector)];
  const name = e => e.querySelector("summary")?.textContent.trim() ?? "";
  const link = (text, href) => Object.assign(document.createElement("a"), {innerHTML: text, href});
  const words = heading => {
    const copy = heading.cloneNode(true);
    copy.querySelectorAll(".headerlink").forEach(e => e.remove());
    copy.querySelectorAll("a").forEach(e => e.replaceWith(...e.childNodes));
    return copy.innerHTML;
  };
  const folded = all("details.hide");
  const moved = all("details").filter(
    e => folded.includes(e) || /^(Solution|Answer)/.test(name(e)));
  const before = (e, selector) => all(selector).filter(
    h => h.compareDocumentPosition(e) & Node.DOCUMENT_POSITION_FOLLOWING).at(-1);
  const answers = moved.filter(e => name(e) === "Answer");
  const title = e => {
    if (folded.includes(e)) {
      const drawn = /^# @title (.*)/.exec(e.querySelector("pre")?.textContent ?? "");
      return "Code: " + (drawn ? drawn[1] : words(before(e, "h1, h2, h3")));
    }
    if (!answers.includes(e)) return words(before(e, "h1, h2, h3"));
    const section = before(e, "h1, h2");
    const here = answers.filter(other => before(other, "h1, h2") === section);
    return words(section) + (here.length > 1 ? ": answer " + (here.indexOf(e) + 1) : ": answer");
  };
  if (part === "appendix") {
    const kept = moved.map((e, n) => {
      const box = document.createElement("div"), h3 = document.createElement("h3");
      box.id = "moved-" + n;
      h3.append(link(title(e), other + "#" + before(e, "h1, h2, h3").parentElement.id));
      box.append(h3, ...[...e.childNodes].filter(n => n.nodeName !== "SUMMARY"));
      return box;
    });
    article.replaceChildren(article.querySelector("h1"), ...kept);
    targets = kept.map(box => box.id);
  } else {
    moved.forEach((e, n) => {
      const note = document.createElement("p");
      note.className = "in-appendix";
      if (!folded.includes(e))
        note.append(name(e) + ": ", link("in the appendix", other + "#moved-" + n), ".");
      e.replaceWith(note);
    });
    all("details").forEach(e => (e.open = true));
  }
  const links = document.createElement("div");
  links.className = "print-targets";
  links.append(...targets.map(id => link(".", "#" + id)));
  article.prepend(links);
  return moved.length;
}
