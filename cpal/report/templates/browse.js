"use strict";
// Filters and sorts the images, and flips through the layers of an enlarged image. Without this script the page shows
// all images in their first order.
{
  const get = (id) => document.getElementById(id);
  const list = get("cards"), viewer = get("viewer"), slider = get("layer");
  const cards = [...list.children];
  let shown = cards, current = null, wanted = null;

  const layers = (card) => [...card.querySelectorAll("img")];
  const title = (picture) => picture.dataset.layer;

  function arrange() {
    const label = get("class").value, split = get("split").value, text = get("name").value.trim().toLowerCase();
    const order = get("order").value, layer = get("show").value;
    shown = cards.filter((card) =>
      (!label || card.dataset.classes.split(" ").includes(label)) && (!split || card.dataset.split === split) &&
      card.dataset.name.toLowerCase().includes(text));
    const number = (card) => (card.dataset[order] === "" ? Infinity : Number(card.dataset[order]));
    const key = order === "name" ? (card) => card.dataset.name : number;
    shown.sort((a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0));  // equal ones stay in the first order
    for (const card of cards) card.hidden = true;
    for (const card of shown) {
      card.hidden = false;
      list.append(card);
      const all = layers(card), wished = all.find((picture) => title(picture) === layer);
      for (const picture of all) picture.hidden = picture !== (wished || card.querySelector("[data-result]"));
    }
    get("count").textContent = `${shown.length} of ${cards.length} images`;
  }

  function draw() {
    const all = layers(current);
    const picture = all.find((one) => title(one) === wanted) || current.querySelector("[data-result]");
    const place = all.indexOf(picture), at = shown.indexOf(current);
    slider.max = all.length - 1;
    slider.value = place;
    slider.setAttribute("aria-valuetext", title(picture));
    get("viewer-name").textContent = current.dataset.name;
    get("viewer-layer").textContent = `${title(picture)}, ${place + 1} of ${all.length}`;
    get("viewer-words").textContent = get(`words-${title(picture).replace(" ", "-")}`).textContent;
    get("viewer-facts").replaceChildren(...current.querySelector(".facts").cloneNode(true).childNodes);
    get("viewer-picture").src = picture.src;
    get("viewer-picture").alt = picture.alt;
    get("previous").disabled = at <= 0;
    get("next").disabled = at < 0 || at === shown.length - 1;
  }

  function open(card) {
    current = card;
    draw();
    if (!viewer.open) viewer.showModal();
    slider.focus();
  }

  function step(by) {
    const next = shown[shown.indexOf(current) + by];
    if (next) open(next);
  }

  function flip(to) {
    const all = layers(current);
    wanted = title(all[Math.max(0, Math.min(all.length - 1, to))]);
    draw();
  }

  for (const id of ["class", "split", "order", "show", "name"]) get(id).addEventListener("input", arrange);
  list.addEventListener("click", (event) => {
    if (event.target.closest("button")) open(event.target.closest("li"));
  });
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-class], a[data-card]");
    if (!link) return;
    if (link.dataset.card) {
      event.preventDefault();
      open(get(link.dataset.card));
    } else {
      for (const id of ["split", "name"]) get(id).value = "";
      get("class").value = link.dataset.class;
      arrange();
    }
  });
  slider.addEventListener("input", () => flip(Number(slider.value)));
  get("previous").addEventListener("click", () => step(-1));
  get("next").addEventListener("click", () => step(1));
  get("close").addEventListener("click", () => viewer.close());
  viewer.addEventListener("keydown", (event) => {
    const move = {
      ArrowLeft: () => flip(Number(slider.value) - 1), ArrowRight: () => flip(Number(slider.value) + 1),
      ArrowUp: () => step(-1), ArrowDown: () => step(1),
    }[event.key];
    if (move) {
      event.preventDefault();
      move();
    }
  });
  get("controls").hidden = false;
  arrange();
}
