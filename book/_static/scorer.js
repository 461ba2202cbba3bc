// The order of what a search finds: chapters by their names, chapters, other pages, the library.
var Scorer = {
  score: ([page, title, anchor, _description, score]) => {
    const words = (text) => text.toLowerCase().split(/[^\p{L}\p{N}]+/u).filter(Boolean);
    const names = words(`${page} ${title}`);
    const asked = words(new URLSearchParams(location.search).get("q") ?? "");
    const named = !anchor && asked.every((word) => names.some((name) => name.startsWith(word)));
    if (page.startsWith("notebooks/")) return score + (named ? 100 : 20);
    if (page.startsWith("book/api/") || page === "CHANGELOG") return score - 20;
    return score;
  },
  // What follows are Sphinx's own numbers.
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
