// What is wrong in the page as the reader sees it: a list of lines. test_browser.py runs it.
async () => {
  const still = document.createElement("style"); // colours as they end up, not on their way
  still.textContent = "* { transition: none !important; animation: none !important; }";
  document.head.append(still);
  for (const details of document.querySelectorAll("details")) details.open = true; // solutions too
  const problems = [];
  const say = (what, text) =>
    problems.push(`${what}: ${text.trim().replace(/\s+/g, " ").slice(0, 120)}`);
  const tag = (node) => `<${node.tagName.toLowerCase()} class="${node.className}"> ${node.textContent}`;

  // Equations: each rendered, without errors, with MathML beside it, with one number at most.
  const equations = [...document.querySelectorAll(".math")];
  if (equations.length) {
    if (!window.MathJax?.startup?.promise) return ["MathJax is not loaded"];
    await MathJax.startup.promise;
    await document.fonts.ready;
  }
  for (const equation of equations) {
    const boxes = equation.querySelectorAll("mjx-container");
    if (!boxes.length) say("equation not rendered", equation.textContent);
    for (const box of boxes) {
      const mathml = box.querySelector("mjx-assistive-mml");
      const error = box.querySelector("mjx-merror, [data-mjx-error]");
      if (error) say("equation with an error", error.dataset.mjxError || error.textContent);
      if (!mathml) say("equation without MathML for screen readers", tag(box));
      else if (/\\[A-Za-z]/.test(mathml.textContent)) say("unknown TeX command", mathml.textContent);
    }
    const room = equation.parentElement.clientWidth;
    if (
      equation.tagName === "SPAN" && equation.clientWidth < 0.9 * room &&
      equation.scrollWidth > equation.clientWidth &&
      getComputedStyle(equation).overflowX === "auto" &&
      getComputedStyle(equation).scrollbarWidth !== "none"
    ) say("a scroll bar under a formula that has room", equation.textContent);
    if (equation.querySelector(".eqno") && equation.querySelector("mlabeledtr"))
      say("equation with two numbers (write align*, not align)", equation.textContent);
  }

  // No raw TeX or reStructuredText in the text.
  const skip = "pre, code, script, style, noscript, textarea, mjx-container, .math";
  const rawTeX = /\\[A-Za-z]{2,}|\\[()[\]]|\$\$|\$[^$\n]*[\\_^{][^$\n]*\$/;
  const rawText = /:[a-z]+:`|\.\. [a-z:]+::/;
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode;
    if (text.parentElement.closest(skip)) continue;
    if (rawTeX.test(text.data)) say("raw TeX", text.data);
    if (rawText.test(text.data)) say("raw markup", text.data);
  }

  // Nothing is wider than the page, unless it scrolls inside its own box.
  const width = document.documentElement.clientWidth;
  const full = document.documentElement.scrollWidth;
  if (full > width) say("page scrolls sideways", `${full} px on ${width} px`);
  const contained = (node) => {
    for (let e = node.parentElement; e && e.tagName !== "BODY"; e = e.parentElement)
      if (/auto|scroll/.test(getComputedStyle(e).overflowX)) return true;
    return false;
  };
  // MathML that only screen readers see is left out; the page's width above includes it.
  const drawn = "article.bd-article :not(mjx-assistive-mml, mjx-assistive-mml *)";
  for (const node of document.querySelectorAll(drawn)) {
    const box = node.getBoundingClientRect();
    if (box.width && box.right > width + 1 && !contained(node)) say("wider than the page", tag(node));
    if (node.matches("div.math, table") && box.left < node.parentElement.getBoundingClientRect().left - 1)
      say("cut off at the left", tag(node));
  }

  // The text stands out from what is behind it: 4.5 to 1, 3 to 1 where it is large (WCAG AA).
  const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    pen.clearRect(0, 0, 1, 1);
    pen.fillStyle = color;
    pen.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below) => top.map((v, i) => (i < 3 ? v * top[3] + below[i] * (1 - top[3]) : 1));
  const luminance = (color) => {
    const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = color.map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    if (!node) return [255, 255, 255, 1];
    const color = rgba(getComputedStyle(node).backgroundColor);
    return color[3] === 1 ? color : over(color, behind(node.parentElement));
  };
  const visible = { checkOpacity: true, checkVisibilityCSS: true };
  const seen = new Set();
  for (const node of document.querySelectorAll("body *")) {
    if (![...node.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
    if (!node.checkVisibility(visible)) continue;
    if (node.closest("script, style, mjx-assistive-mml, .visually-hidden, .headerlink, .copybtn, .skip-link, #pst-skip-link")) continue;
    const style = getComputedStyle(node);
    const ground = behind(node);
    const pair = [luminance(over(rgba(style.color), ground)), luminance(ground)];
    const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    const size = parseFloat(style.fontSize);
    const wanted = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
    const key = `${ratio.toFixed(2)}, ${style.color} on rgb(${ground.slice(0, 3).map(Math.round)})`;
    if (ratio < wanted - 0.01 && !seen.has(key)) {
      seen.add(key);
      say(`contrast ${key}`, tag(node));
    }
  }
  return problems;
}
