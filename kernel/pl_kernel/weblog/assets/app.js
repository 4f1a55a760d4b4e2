// The pages work without this script; it adds the side bar, search, filters, sorting, the picture viewer and keys.
// Text from data only ever enters the page through textContent, and links only from the index that pl wrote.
"use strict";
(function () {
  const up = document.body.dataset.up || "";
  const index = window.PL_INDEX || { stages: [], entries: [] };
  const $ = (id) => document.getElementById(id);
  const all = (selector, root) => Array.from((root || document).querySelectorAll(selector));
  const make = (name, className, text) => {
    const element = document.createElement(name);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };

  // ---- light and dark -----------------------------------------------------------------------------------------
  function switchTheme() {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    try { window.localStorage.setItem("pl-theme", root.dataset.theme); } catch (error) { /* not kept, still switched */ }
  }
  $("theme").addEventListener("click", switchTheme);

  // ---- stages: side bar, previous and next ----------------------------------------------------------------------
  const page = document.querySelector("main[data-stage]");
  const place = page ? index.stages.findIndex((s) => String(s.n) === page.dataset.stage) : -1;
  const list = $("stage-list");
  if (list) {
    index.stages.forEach((stage, position) => {
      const link = make("a");
      link.href = up + stage.href;
      link.append(make("span", "dot " + stage.band), make("span", "", stage.n + ". " + stage.name));
      if (position === place) link.setAttribute("aria-current", "page");
      link.title = stage.score === null ? "no score" : stage.score.toFixed(2);
      list.append(link);
    });
    const current = list.querySelector("[aria-current]");
    if (current) current.parentElement.parentElement.scrollTop = current.offsetTop - 200;
  }
  const neighbour = (step) => (place >= 0 ? index.stages[place + step] : undefined);
  if (page) {
    for (const [id, step] of [["previous", -1], ["next", 1]]) {
      const stage = neighbour(step), link = $(id);
      link.hidden = !stage;
      if (stage) {
        link.href = up + stage.href;
        link.textContent = step < 0 ? "‹ " + stage.n + ". " + stage.name : stage.n + ". " + stage.name + " ›";
      }
    }
  }
  function go(step) {
    const stage = page ? neighbour(step) : step > 0 ? index.stages[0] : undefined;
    if (stage) window.location.href = up + stage.href;
  }

  // ---- filters of plots -----------------------------------------------------------------------------------------
  const plots = all("figure.plot");
  const tagsOf = new Map(plots.map((plot) => {
    let tags = {};
    try { tags = JSON.parse(plot.dataset.tags || "{}"); } catch (error) { /* a plot without tags is always shown */ }
    return [plot, tags];
  }));
  const filters = $("filters");
  const parts = (text) => text.split(",").map((part) => part.trim());
  function applyFilters() {
    const wanted = all("select", filters).filter((s) => s.value !== "").map((s) => [s.name, s.value]);
    let shown = 0;
    for (const plot of plots) {
      const tags = tagsOf.get(plot);
      const fits = wanted.every(([key, value]) => !(key in tags) || parts(tags[key]).some((v) => parts(value).includes(v)));
      plot.hidden = !fits;
      if (fits) shown += 1;
    }
    $("filtered").textContent = wanted.length ? shown + " of " + plots.length : "";
  }
  function setFilters(text) {
    filters.reset();
    for (const [key, value] of new URLSearchParams(text)) {
      const select = filters.elements.namedItem(key);
      if (!select) continue;
      // A score may speak of several antennas: one option of its own shows them together.
      if (!Array.from(select.options).some((o) => o.value === value)) select.add(new Option(value, value));
      select.value = value;
    }
    applyFilters();
    // The bar of filters stays in sight: what was asked for are the plots.
    const fitting = plots.filter((plot) => !plot.hidden);
    // Plots of just these data first, then those of all data; what is folded last.
    const chosen = all("select", filters).filter((s) => s.value !== "").map((s) => s.name);
    const own = (plot) => chosen.filter((key) => key in tagsOf.get(plot)).length;
    const open = (plot) => !plot.closest("details:not([open])");
    const first = fitting.sort((a, b) => own(b) - own(a) || open(b) - open(a))[0];
    const folded = first && first.closest("details:not([open])");
    if (folded) folded.open = true;
    (first || filters).scrollIntoView({ block: "start" });
  }
  if (filters) {
    filters.addEventListener("input", applyFilters);
    filters.addEventListener("reset", () => window.setTimeout(applyFilters));
    filters.addEventListener("submit", (event) => event.preventDefault());
    for (const link of all("a.filterlink")) {
      link.addEventListener("click", (event) => { event.preventDefault(); setFilters(link.dataset.filter); });
    }
    if (window.location.hash.startsWith("#plots:")) {
      try { setFilters(decodeURIComponent(window.location.hash.slice(7))); } catch (error) { /* a mangled link */ }
    }
  } else {
    for (const link of all("a.filterlink")) link.addEventListener("click", () => plots[0] && plots[0].scrollIntoView());
  }
  function openTarget() {
    // Something inside a folded section was linked to: unfold it.
    const id = window.location.hash.slice(1);
    const target = id && $(id);
    if (!target) return;
    for (let node = target; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
    target.scrollIntoView();
  }
  window.addEventListener("hashchange", openTarget);
  openTarget();

  const query = $("image-query");
  if (query) {
    const cards = all(".imagecard");
    query.addEventListener("input", () => {
      const words = query.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const card of cards) {
        card.hidden = !words.every((w) => card.dataset.text.includes(w));
        if (!card.hidden) shown += 1;
      }
      $("image-count").textContent = words.length ? shown + " of " + cards.length : "";
    });
    $("imagefilter").addEventListener("submit", (event) => event.preventDefault());
  }

  // ---- tables: sort and filter ----------------------------------------------------------------------------------
  for (const table of all("table.data")) {
    const heads = all("thead th", table), body = table.tBodies[0];
    if (!heads.length || !body || body.rows.length < 2) continue;
    const rows = Array.from(body.rows);
    heads.forEach((head, column) => {
      if (rows.every((r) => !r.cells[column] || r.cells[column].classList.contains("n"))) head.classList.add("n");
    });
    const value = (row, column) => {
      const cell = row.cells[column];
      return cell ? (cell.dataset.v !== undefined ? cell.dataset.v : cell.textContent.trim()) : "";
    };
    heads.forEach((head, column) => {
      const button = make("button");
      button.type = "button";
      button.append(...head.childNodes);
      button.title = "Sort";
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((h) => h.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const sign = down ? -1 : 1;
        const order = rows.slice().sort((a, b) => {
          const x = value(a, column), y = value(b, column), m = Number(x), n = Number(y);
          if (x !== "" && y !== "" && !Number.isNaN(m) && !Number.isNaN(n)) return sign * (m - n);
          if ((x === "") !== (y === "")) return x === "" ? 1 : -1;
          return sign * x.localeCompare(y, undefined, { numeric: true });
        });
        body.append(...order);
      });
    });
    if (table.dataset.filters) addTableFilters(table, heads, rows, value);
  }
  function addTableFilters(table, heads, rows, value) {
    const bar = make("div", "tablefilter");
    const names = heads.map((h) => h.querySelector("button").firstChild.textContent.trim());
    const selects = [];
    for (const name of table.dataset.filters.split("\n")) {
      const column = names.indexOf(name);
      const values = column < 0 ? [] : [...new Set(rows.map((r) => value(r, column)))];
      if (values.length < 2) continue;
      const label = make("label", "", name + " "), select = make("select");
      select.add(new Option("all", ""));
      values.sort((a, b) => a.localeCompare(b, undefined, { numeric: true })).forEach((v) => v !== "" && select.add(new Option(v, v)));
      label.append(select);
      bar.append(label);
      selects.push([column, select]);
    }
    if (!selects.length) return;
    const count = make("output", "muted");
    bar.append(count);
    table.parentElement.prepend(bar);
    bar.addEventListener("input", () => {
      let shown = 0;
      for (const row of rows) {
        row.hidden = !selects.every(([column, select]) => select.value === "" || value(row, column) === select.value);
        if (!row.hidden) shown += 1;
      }
      count.textContent = shown === rows.length ? "" : shown + " of " + rows.length;
    });
  }

  // ---- the picture viewer ---------------------------------------------------------------------------------------
  const box = $("lightbox");
  const boxImage = make("img");
  let shown = [], at = 0;
  function show(position) {
    if (!shown.length) return;
    at = (position + shown.length) % shown.length;
    const plot = shown[at], image = plot.querySelector("img"), caption = plot.querySelector(".caption");
    boxImage.src = image.src;
    boxImage.alt = image.alt;
    if (!boxImage.parentElement) $("box-figure").prepend(boxImage);
    $("box-caption").textContent = caption && caption.textContent ? caption.textContent : image.alt;
    $("box-count").textContent = at + 1 + " of " + shown.length;
    $("box-open").href = image.src;
    const facts = plot.querySelector("dl");
    $("box-facts").replaceChildren(...(facts ? Array.from(facts.children).map((c) => c.cloneNode(true)) : []));
  }
  for (const plot of plots) {
    const link = plot.querySelector("a.zoom");
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey || !box.showModal) return;
      event.preventDefault();
      shown = plots.filter((p) => !p.hidden && p.offsetParent !== null);
      show(shown.indexOf(plot));
      box.showModal();
    });
  }
  $("box-prev").addEventListener("click", () => show(at - 1));
  $("box-next").addEventListener("click", () => show(at + 1));
  for (const dialog of all("dialog")) {
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  }

  // ---- search ---------------------------------------------------------------------------------------------------
  const search = $("search"), input = $("query"), hits = $("hits");
  const haystack = index.entries.map((e) => (e[1] + " " + e[2] + " " + e[0]).toLowerCase());
  let chosen = 0;
  function find() {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    hits.replaceChildren();
    chosen = 0;
    if (!words.length) return;
    let count = 0;
    for (let i = 0; i < haystack.length && count < 40; i += 1) {
      if (!words.every((w) => haystack[i].includes(w))) continue;
      const [kind, title, subtitle, href] = index.entries[i];
      const item = make("li"), link = make("a", count ? "" : "on");
      link.href = up + href;
      link.append(make("span", "kind", kind), make("span", "", title), make("small", "", subtitle));
      link.addEventListener("click", () => search.close());
      item.append(link);
      hits.append(item);
      count += 1;
    }
    if (!count) hits.append(make("li", "muted", "Nothing found."));
  }
  function openSearch() { search.showModal(); input.select(); find(); }
  $("search-open").addEventListener("click", openSearch);
  input.addEventListener("input", find);
  search.addEventListener("keydown", (event) => {
    const links = all("a", hits);
    if (event.key === "Enter") {
      event.preventDefault();
      if (links[chosen]) links[chosen].click();
    } else if (links.length && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      event.preventDefault();
      links[chosen].classList.remove("on");
      chosen = (chosen + (event.key === "ArrowDown" ? 1 : links.length - 1)) % links.length;
      links[chosen].classList.add("on");
      links[chosen].scrollIntoView({ block: "nearest" });
    }
  });

  // ---- copy -----------------------------------------------------------------------------------------------------
  function copy(text, button) {
    const done = () => { const old = button.textContent; button.textContent = "Copied"; window.setTimeout(() => { button.textContent = old; }, 1200); };
    const byHand = () => {
      const area = make("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      if (document.execCommand("copy")) done();
      area.remove();
    };
    if (navigator.clipboard && window.isSecureContext) navigator.clipboard.writeText(text).then(done, byHand);
    else byHand();
  }
  for (const button of all("button.copy")) {
    button.addEventListener("click", () => copy(button.parentElement.querySelector("pre").textContent, button));
  }
  for (const button of all("button.copy-all")) {
    const section = button.closest("details");
    button.addEventListener("click", () => copy(all("pre", section).map((p) => p.textContent).join("\n"), button));
  }

  // ---- keys -----------------------------------------------------------------------------------------------------
  const help = $("help");
  $("help-open").addEventListener("click", () => help.showModal());
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (box.open) {
      if (event.key === "ArrowRight" || event.key === "j") show(at + 1);
      else if (event.key === "ArrowLeft" || event.key === "k") show(at - 1);
      return;
    }
    if (document.querySelector("dialog[open]") || event.target.closest("input, select, textarea")) return;
    const actions = {
      "/": openSearch, "?": () => help.showModal(), d: switchTheme,
      j: () => go(1), k: () => go(-1),
      s: () => { window.location.href = up + "index.html"; },
      t: () => { window.location.href = up + "stages.html"; },
      i: () => { window.location.href = up + "images.html"; },
    };
    if (page) { actions.ArrowRight = actions.j; actions.ArrowLeft = actions.k; }
    // Arrow keys scroll a wide table that has the focus; they must not leave the page then.
    if (actions[event.key] && !(event.key.startsWith("Arrow") && event.target.closest(".tablewrap, pre, summary"))) {
      event.preventDefault();
      actions[event.key]();
    }
  });

  // ---- a running pipeline ---------------------------------------------------------------------------------------
  // Whether the run goes on stands in the index alone: pages of stages that are done are not written again.
  if (index.live) {
    const known = window.PL_REVISION;
    const tell = () => {
      const moment = new Date(window.PL_WRITTEN);
      $("news").textContent = Number.isNaN(moment.getTime()) ? "" : ", last news at " + moment.toISOString().slice(11, 19) + " UTC";
    };
    tell();
    $("live").hidden = false;
    const timer = window.setInterval(() => {
      const script = make("script");
      script.src = up + "assets/run-index.js?" + Date.now();
      script.addEventListener("load", () => {
        script.remove();
        tell();
        if (window.PL_REVISION === known) return;
        window.clearInterval(timer);
        $("reload").hidden = false;
      });
      script.addEventListener("error", () => script.remove());
      document.head.append(script);
    }, 5000);
    $("reload").addEventListener("click", () => window.location.reload());
  }
})();
