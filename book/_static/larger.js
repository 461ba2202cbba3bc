// On a narrow screen a tap on a figure, or the button in its corner, shows it in its full size.
const dialog = document.createElement("dialog");
dialog.className = "larger-view";
dialog.setAttribute("aria-label", "Larger view of the figure");
dialog.innerHTML = `<button type="button">Close</button>
  <div tabindex="0" role="group" aria-label="The figure: scrolls sideways"></div>`;
dialog.addEventListener("click", (event) => {
  if (event.target === dialog || event.target.closest("button")) dialog.close();
});

function show(image, button) {
  const copy = new Image();
  copy.src = image.src;
  copy.alt = image.alt;
  dialog.querySelector("div").replaceChildren(copy);
  button.focus(); // the focus comes back here when the dialog closes
  dialog.showModal();
}

addEventListener("load", () => {
  document.body.append(dialog);
  for (const image of document.querySelectorAll(".bd-article :is(.cell_output, figure, p) > img, .bd-article .output img")) {
    if (image.closest("a")) continue;
    const frame = document.createElement("span");
    const button = document.createElement("button");
    frame.className = "larger-frame";
    button.type = "button";
    button.title = "Larger view";
    button.textContent = "+";
    button.setAttribute("aria-label", "Larger view of the figure");
    image.replaceWith(frame);
    frame.append(image, button);
    const narrow = () => button.checkVisibility();
    button.addEventListener("click", () => show(image, button));
    image.addEventListener("click", () => narrow() && show(image, button));
  }
});
