// What is wider than the page scrolls in a box of its own. Only such boxes take the keyboard's focus.
const BOXES = "div.math, .bd-article pre, .pst-scrollable-table-container, .cell_output .text_html";

function mark() {
  const article = document.querySelector(".bd-article");
  if (!article) return;
  for (const formula of article.querySelectorAll("span.math")) {
    const drawn = formula.querySelector("mjx-container");
    const text = formula.closest("p, li, td, dd, summary, blockquote, article");
    formula.classList.toggle("wide", !!drawn && drawn.offsetWidth > text.clientWidth);
  }
  for (const box of article.querySelectorAll(`${BOXES}, span.math.wide`)) {
    if (box.scrollWidth > box.clientWidth + 1) {
      box.tabIndex = 0;
      box.setAttribute("role", "group");
      box.setAttribute("aria-label", "Wider than the page: scrolls sideways");
    } else if (box.getAttribute("role") === "group") {
      box.removeAttribute("tabindex");
      box.removeAttribute("role");
      box.removeAttribute("aria-label");
    }
  }
}

addEventListener("load", () => {
  (window.MathJax?.startup?.promise ?? Promise.resolve()).then(mark);
  addEventListener("resize", mark);
  addEventListener("toggle", mark, true); // an opened answer
});
