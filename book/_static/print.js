// A page prints in light colours and with everything open, and looks as before afterwards.
let theme, closed;

addEventListener("beforeprint", () => {
  theme = document.documentElement.dataset.theme;
  document.documentElement.dataset.theme = "light";
  closed = [...document.querySelectorAll("article details:not([open])")];
  closed.forEach(e => (e.open = true));
  document.querySelectorAll("img[loading]").forEach(e => (e.loading = "eager"));
});

addEventListener("afterprint", () => {
  document.documentElement.dataset.theme = theme;
  closed.forEach(e => (e.open = false));
});
