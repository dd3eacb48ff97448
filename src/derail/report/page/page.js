"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("scripts");

  // Light or dark: as the system has it, until somebody chooses.
  const kept = (value) => {
    try {
      if (value) localStorage.setItem("derail-theme", value);
      return localStorage.getItem("derail-theme");
    } catch { return null; } // a page from a file may not keep anything
  };
  const chosen = kept();
  if (chosen) root.dataset.theme = chosen;
  document.getElementById("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    kept(root.dataset.theme);
  });

  // Which scenarios are shown.
  const search = document.getElementById("search");
  const boxes = [...document.querySelectorAll(".filters input[type=checkbox]")];
  const told = [...document.querySelectorAll("[data-scenario]")];
  const filter = () => {
    const kinds = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
    const text = search.value.trim().toLowerCase();
    for (const each of told) {
      each.hidden = !kinds.has(each.dataset.verdict) || !each.dataset.scenario.toLowerCase().includes(text);
    }
  };
  search.addEventListener("input", filter);
  boxes.forEach((box) => box.addEventListener("change", filter));

  document.querySelectorAll("[data-open]").forEach((button) => button.addEventListener("click", () => {
    document.querySelectorAll(".run").forEach((run) => { run.open = button.dataset.open === "all"; });
  }));

  // A link to a run opens it.
  const reveal = () => {
    const body = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const run = body && body.closest("details.run");
    if (!run) return;
    run.hidden = false;
    run.open = true;
    run.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  reveal();

  // Timelines: more or less room for time, and words for whatever is pointed at.
  document.querySelectorAll(".timeline").forEach((figure) => {
    const lanes = figure.querySelector(".lanes"), scroll = figure.querySelector(".scroll");
    const words = figure.querySelector(".picked"), seconds = Number(figure.dataset.seconds);
    const axis = figure.querySelector(".axis .track");
    const cursor = document.createElement("i");
    cursor.className = "cursor";
    cursor.hidden = true;
    lanes.append(cursor);
    let zoom = 1, here = null;

    const show = (factor) => {
      const middle = (scroll.scrollLeft + scroll.clientWidth / 2) / scroll.scrollWidth;
      zoom = Math.min(64, Math.max(1, factor));
      lanes.style.setProperty("--zoom", zoom);
      scroll.scrollLeft = middle * scroll.scrollWidth - scroll.clientWidth / 2;
    };
    figure.querySelectorAll("[data-do]").forEach((button) => button.addEventListener("click", () => {
      if (button.dataset.do === "telling") {
        const few = figure.classList.toggle("few");
        button.setAttribute("aria-pressed", few);
        return;
      }
      show(button.dataset.do === "in" ? zoom * 2 : button.dataset.do === "out" ? zoom / 2 : 1);
    }));

    const pick = (event) => {
      const track = axis.getBoundingClientRect();
      const part = (event.clientX - track.left) / track.width;
      cursor.hidden = part < 0 || part > 1;
      if (!cursor.hidden) cursor.style.left = `${event.clientX - lanes.getBoundingClientRect().left}px`;
      const found = event.target.closest(".lanes .mark, .lanes .band");
      if (here) here.classList.remove("here");
      here = found;
      if (found) found.classList.add("here");
      const at = cursor.hidden ? "" : `${(part * seconds).toFixed(3)} s`;
      words.textContent = found ? found.title || found.dataset.told : at;
    };
    scroll.addEventListener("pointermove", pick);
    scroll.addEventListener("pointerdown", pick);
    scroll.addEventListener("pointerleave", () => { cursor.hidden = true; });
  });
})();
