// On a narrow screen a figure opens in a larger view that scrolls. Its link to the file is what
// remains without this script, on a wide screen, and with a key held to open a new tab.
const narrow = matchMedia("(max-width: 768px)");

addEventListener("click", (event) => {
  const link = event.target.closest?.(".bd-article a.image-reference");
  if (!link || !narrow.matches || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const small = link.querySelector("img");
  const view = document.createElement("dialog");
  view.className = "larger";
  view.setAttribute("aria-label", "Larger view of the figure");
  const close = document.createElement("button");
  close.textContent = "Close";
  close.onclick = () => view.close();
  const box = document.createElement("div");
  box.tabIndex = 0;
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", "The figure: scrolls in both directions");
  const image = new Image();
  image.src = link.href;
  image.alt = small.alt;
  image.style.width = `${Math.max(2 * small.clientWidth, parseInt(small.style.width) || 0)}px`;
  box.append(image);
  view.append(close, box);
  view.onclose = () => {
    view.remove();
    link.focus();
  };
  document.body.append(view);
  view.showModal();
});
