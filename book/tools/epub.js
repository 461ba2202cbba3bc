// What becomes of a page. ``names`` has the file in the EPUB for the address of each page.
names => {
  const article = document.querySelector("article.bd-article");
  const all = selector => [...article.querySelectorAll(selector)];
  const tex = new Map([...(window.MathJax?.startup?.document?.math ?? [])].map(
    item => [item.typesetRoot, item.math]));
  for (const drawn of all("mjx-container")) {
    const math = drawn.querySelector("mjx-assistive-mml > math");
    for (const row of math.querySelectorAll("mlabeledtr")) {  // browsers do not draw these
      const plain = document.createElementNS(math.namespaceURI, "mtr");
      const [label, ...cells] = row.children;
      label.setAttribute("class", "tag");
      plain.append(...cells, label);
      row.replaceWith(plain);
    }
    for (const e of [math, ...math.querySelectorAll("*")])
      for (const { name } of [...e.attributes])
        if (/^(data-|id$|style$|side$|minlabelspacing$)/.test(name)) e.removeAttribute(name);
    math.setAttribute("alttext", tex.get(drawn) ?? math.textContent);
    drawn.replaceWith(math);
  }
  const playground = article.querySelector("section.playground");
  if (playground) {
    const note = document.createElement("p"), link = document.createElement("a");
    const online = document.querySelector("link[rel=canonical]")?.href;
    link.textContent = "page of the book in a browser";
    if (online) link.href = online;
    note.append("The playground needs scripts, which an e-book does not run. It works on this ",
      online ? link : link.textContent, ".");
    playground.replaceWith(note);
  }
  const gone = "script, style, link, noscript, button, summary svg, a.headerlink, a.viewcode-back, "
    + ".viewcode-link, .toctree-wrapper, colgroup, .only-dark";
  all(gone).forEach(e => e.remove());
  for (const e of all("details.hide")) {
    const drawn = /^# @title (.*)/.exec(e.querySelector("pre")?.textContent ?? "");
    e.querySelector("summary").textContent = drawn ? "Code: " + drawn[1] : "Code";
  }
  all("summary > p, caption > p").forEach(e => e.replaceWith(...e.childNodes));
  for (const e of all("table")) {  // smaller print where there is little room
    const columns = e.rows[0].cells.length;
    if (columns > 6 || (columns > 4 && e.querySelector("math"))) e.classList.add("wider");
    else if (columns > 3) e.classList.add("wide");
  }
  const known = new Set(["href", "src", "alt", "id", "class", "colspan", "rowspan", "scope",
    "start", "open", "lang", "title"]);
  const images = [];
  for (const e of all("*")) {
    if (e.namespaceURI !== article.namespaceURI) continue;
    const address = e.localName === "a" ? e.href : "";
    for (const { name } of [...e.attributes]) if (!known.has(name)) e.removeAttribute(name);
    if (e.localName === "details") e.removeAttribute("open");
    if (e.localName === "img") {
      images.push(e.src);
      e.setAttribute("src", "images/" + e.src.split("/").at(-1));
      e.alt ??= "";
    }
    if (address) {
      const [file, fragment] = address.split("#");
      if (names[file]) e.setAttribute("href", names[file] + (fragment ? "#" + fragment : ""));
      else if (!/^(https?|mailto):/.test(address)) e.removeAttribute("href");
    }
  }
  const text = e => e.textContent.trim();
  const seen = new Set();
  for (const e of all("[id]")) seen.has(e.id) ? e.removeAttribute("id") : seen.add(e.id);
  const xml = [...article.childNodes].map(e => new XMLSerializer().serializeToString(e)).join("");
  return {
    xml, images, ids: [...seen], title: text(article.querySelector("h1")),
    sections: all("section > h2").map(h => [text(h), h.parentElement.id]),
  };
}
