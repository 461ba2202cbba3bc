// What is wider than the page scrolls in a box of its own. Only such boxes take the keyboard's focus.
const BOXES = "div.math, .bd-article pre, .pst-scrollable-table-container, .cell_output .text_html";

// An edge fades while something is hidden behind it (course.css).
function fade(box) {
  const hidden = box.scrollWidth - box.clientWidth - box.scrollLeft;
  box.classList.toggle("more-left", box.scrollLeft > 1);
  box.classList.toggle("more-right", hidden > 1);
}

function mark() {
  const article = document.querySelector(".bd-article");
  if (!article) return;
  for (const formula of article.querySelectorAll("span.math")) {
    const drawn = formula.querySelector("mjx-container");
    const text = formula.closest("p, li, td, dd, summary, blockquote, article");
    formula.classList.toggle("wide", !!drawn && drawn.offsetWidth > text.clientWidth);
  }
  // a formula that was wide before the window grew is tidied up, too
  for (const box of article.querySelectorAll(`${BOXES}, span.math:is(.wide, [role=group])`)) {
    const scrolls = box.matches(`${BOXES}, .wide`);
    if (scrolls && box.scrollWidth > box.clientWidth + 1) {
      box.tabIndex = 0;
      box.setAttribute("role", "group");
      box.setAttribute("aria-label", "Wider than the page: scrolls sideways");
      box.onscroll = () => fade(box);
      fade(box);
    } else if (box.getAttribute("role") === "group") {
      box.removeAttribute("tabindex");
      box.removeAttribute("role");
      box.removeAttribute("aria-label");
      box.onscroll = null;
      box.classList.remove("more-left", "more-right");
    }
  }
}

addEventListener("load", () => {
  (window.MathJax?.startup?.promise ?? Promise.resolve()).then(mark);
  addEventListener("resize", mark);
  addEventListener("toggle", mark, true); // an opened answer
});
