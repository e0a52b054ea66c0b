"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const get = (id) => document.getElementById(id);
  const names = { f: "found", m: "missed", w: "wrong", l: "negation lost", u: "not in the report", e: "no answer" };
  const list = document.querySelector(".list");
  const form = document.querySelector("form");
  const runs = all("[name=view]").slice(0, 2).map((input) => input.parentNode.textContent.trim());
  document.body.classList.add("js");
  if (matchMedia("(max-width: 899px)").matches) {
    document.querySelector(".filters details").open = false;
    if (form.elements.view.value === "ab") form.elements.view.value = "b";
  }

  // A passage: the element that bears a label, its category, and what it is to each run.
  const passage = (element) => {
    const item = { element, category: "", negative: false, a: "", b: "" };
    for (const name of element.classList) {
      if (/^c\d/.test(name)) item.category = name.slice(1);
      else if (name === "n") item.negative = true;
      else if (/^[ab][fmwlue]$/.test(name)) item[name[0]] = name[1];
    }
    for (const view of "ab") if (!element.classList.contains("t" + view)) item[view] = "";
    return item;
  };
  const cases = all(".case").map((element) => ({
    element,
    details: element.querySelector("details"),
    text: element.querySelector(".text"),
    name: element.querySelector("h3").textContent,
    items: all("[data-t]", element).map(passage),
  }));

  let state, stops, current = null;
  const values = (name) => new Set(all(`[name=${name}]:checked`).map((input) => input.value));
  const read = () => ({
    views: [...form.elements.view.value],
    kinds: values("kind"),
    categories: values("category"),
    negative: form.elements.negative.checked,
    search: get("search").value.trim().toLowerCase(),
  });
  const filtered = () =>
    state.negative || all("[name=kind],[name=category]").some((input) => !input.checked);
  const admits = (item, view) =>
    item[view] && state.kinds.has(item[view]) && state.categories.has(item.category) &&
    (!state.negative || item.negative || item[view] === "l");
  const matches = (one) => {
    if (!state.search) return true;
    one.words ??= (one.name + "\n" + one.text.textContent).toLowerCase();
    return one.words.includes(state.search);
  };

  // Quotes, as in the table above: one of them may be marked as several passages.
  const counted = () => {
    const totals = {};
    for (const input of all("[name=category]")) for (const view of state.views) {
      input.parentNode.dataset[view].split(" ").forEach((count, at) => {
        for (const key of ["k" + "fmwlue"[at], "c" + input.value]) totals[key] = (totals[key] || 0) + Number(count);
      });
    }
    return totals;
  };
  const apply = () => {
    state = read();
    const off = (name) => all(`[name=${name}]:not(:checked)`).map((input) => input.value);
    list.className = ["list", ...off("kind").map((k) => "off-" + k), ...off("category").map((c) => "off-c" + c), state.negative ? "only-n" : ""].join(" ");
    const totals = counted();
    let passages = 0, reports = 0;
    for (const one of cases) {
      const before = passages;
      const sought = matches(one);
      for (const item of one.items) for (const view of state.views) {
        if (!item[view]) continue;
        if (sought && admits(item, view)) passages += 1;
      }
      one.element.hidden = !sought || (filtered() && passages === before);
      reports += one.element.hidden ? 0 : 1;
      show(one);
    }
    for (const input of all("[name=kind]")) input.parentNode.querySelector("output").value = totals["k" + input.value] || 0;
    for (const input of all("[name=category]")) input.parentNode.querySelector("output").value = totals["c" + input.value] || 0;
    get("empty").hidden = reports > 0;
    get("status").textContent = `${reports} of ${cases.length} reports, ${passages} passages marked`;
    stops = null;
  };

  // The second column is made when it is first looked at: most reports stay closed.
  const show = (one) => {
    const both = state.views.length === 2;
    if (both && one.details.open && !one.twin) {
      one.twin = one.text.parentNode.cloneNode(true);
      one.twin.querySelector(".text").className = "text view-b";
      one.twin.querySelector(".who").textContent = runs[1];
      all(".now", one.twin).forEach((mark) => mark.classList.remove("now"));
      one.text.parentNode.after(one.twin);
    } else if (!both && one.twin) {
      one.twin.remove();
      one.twin = null;
    }
    one.text.className = "text view-" + state.views[0];
    one.text.parentNode.querySelector(".who").textContent = runs[state.views[0] === "a" ? 0 : 1];
  };

  // What j and k stop at: everything but what was found, unless nothing else is shown.
  const findStops = () => {
    const wanted = (kind) => kind !== "f" || [...state.kinds].join() === "f";
    const order = all(".case");
    const sorted = [...cases].sort((x, y) => order.indexOf(x.element) - order.indexOf(y.element));
    return sorted.filter((one) => !one.element.hidden).flatMap((one) =>
      one.items.flatMap((item) => {
        const view = state.views.find((v) => admits(item, v) && wanted(item[v]));
        return view ? [{ one, item, view }] : [];
      }));
  };
  const step = (by) => {
    stops ??= findStops();
    if (!stops.length) return say("nothing to stop at with these filters");
    let at = stops.findIndex((stop) => current && stop.item === current.item);
    if (at < 0 && current) {
      at = stops.findIndex((stop) => current.item.element.compareDocumentPosition(stop.item.element) & Node.DOCUMENT_POSITION_FOLLOWING);
      at = (at < 0 ? stops.length : at) - (by > 0 ? 1 : 0);
    }
    const next = Math.min(stops.length - 1, Math.max(0, at + by));
    go(stops[next], `${next + 1} of ${stops.length}: `);
  };
  const go = (stop, prefix = "") => {
    stop.one.details.open = true;
    show(stop.one);
    let element = stop.item.element;
    if (state.views.length === 2 && stop.view === "b" && stop.one.text.contains(element)) {
      element = all("mark", stop.one.twin)[all("mark", stop.one.text).indexOf(element)];
    }
    all(".now").forEach((mark) => mark.classList.remove("now"));
    element.classList.add("now");
    element.tabIndex = -1;
    element.focus({ preventScroll: true });
    element.scrollIntoView({ block: "center" });
    current = stop;
    say(`${prefix}${names[stop.item[stop.view]]}, ${stop.item.element.dataset.t}, ${stop.one.name}: ${element.textContent}`);
  };
  const say = (text) => { get("said").textContent = text; };

  const clear = () => {
    all("[name=kind],[name=category]").forEach((input) => { input.checked = true; });
    form.elements.negative.checked = false;
    get("search").value = "";
    apply();
  };
  const turn = () => {
    const chosen = form.elements.view;
    chosen.value = chosen.value === "b" ? "a" : "b";
    apply();
    say(`quotes of ${runs[chosen.value === "a" ? 0 : 1]}`);
  };
  const openAll = (open) => cases.forEach((one) => { if (!one.element.hidden) one.details.open = open; });
  const sort = () => {
    const key = get("sort").value;
    const sorted = [...cases].sort((x, y) => x.element.dataset[key] - y.element.dataset[key]);
    sorted.forEach((one) => get("empty").before(one.element));
    stops = null;
  };
  const reveal = (link) => {
    const target = get(link.getAttribute("href").slice(1));
    if (!target) return;
    const one = cases.find((other) => other.element === target);
    if (one) {
      if (target.hidden) clear();
      one.details.open = true;
      const ours = one.items.filter((item) => item.category === link.dataset.category);
      for (const kind of ["l", "w", "m", "u", "e", "f"]) for (const view of state.views) {
        const item = ours.find((other) => other[view] === kind);
        if (item) return go({ one, item, view });
      }
    }
    target.scrollIntoView();
    target.focus({ preventScroll: true });
  };

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", (event) => {
    if (event.target.id === "sort") sort();
    else if (event.target.id !== "shortcuts") apply();
  });
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#"]');
    // Fragments lead elsewhere where a viewer shows this page inside its own.
    if (link) { event.preventDefault(); reveal(link); }
    const set = event.target.closest("[data-set]")?.dataset.set;
    if (set === "clear") clear();
    else if (set) { all("[name=category]").forEach((input) => { input.checked = set === "all"; }); apply(); }
  });
  const actions = { next: () => step(1), previous: () => step(-1), open: () => openAll(true), close: () => openAll(false), clear };
  for (const [id, action] of Object.entries(actions)) get(id).addEventListener("click", action);
  const keys = { j: actions.next, k: actions.previous, v: turn, x: clear, "/": () => { document.querySelector(".filters details").open = true; get("search").focus(); } };
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input[type=search], select, textarea");
    if (typing || event.ctrlKey || event.metaKey || event.altKey || !get("shortcuts").checked) return;
    const action = keys[event.key];
    if (action) { event.preventDefault(); action(); }
  });
  for (const one of cases) one.details.addEventListener("toggle", () => show(one));
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = all("details:not([open])").filter((details) => !details.closest("[hidden]"));
    closed.forEach((details) => { details.open = true; });
  });
  addEventListener("afterprint", () => closed.forEach((details) => { details.open = false; }));
  apply();
})();
