(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const make = (tag, text = "", more = {}) => Object.assign(document.createElement(tag), { textContent: text }, more);
  const keys = all("[name=category]").map((input) => input.parentNode.dataset.key);
  const download = document.getElementById("download");
  const cases = [];

  // Offsets are code points, as in the files; strings of a browser count otherwise.
  const length = (string) => Array.from(string).length;
  // A select, boxes, or lines of text; `items` reads it, `show` sets it.
  const control = (field) => {
    const known = new Map(Object.entries(field.chosen).map(([item, option]) => [option, item]));
    // An option that gold or the answer has comes with its quote.
    const item = (option) => known.get(option) ?? option;
    const chosen = (items) => items.map((one) => field.chosen[one] ?? one);
    if (!field.offered.length) {
      const area = make("textarea", "", { rows: Math.min(12, Math.max(1, field.gold.length, field.found.length)), placeholder: "one a line" });
      area.setAttribute("aria-label", field.key);
      const items = () => area.value.split("\n").map((line) => line.trim()).filter(Boolean);
      return { element: area, items, show: (shown) => { area.value = shown.join("\n"); } };
    }
    if (field.many) {
      const set = make("span", "", { className: "boxes" });
      const boxes = field.offered.map((option) => make("input", "", { type: "checkbox", value: option }));
      set.append(...boxes.map((box) => { const line = make("label"); line.append(box, ` ${box.value}`); return line; }));
      set.setAttribute("role", "group");
      set.setAttribute("aria-label", field.key);
      const items = () => boxes.filter((box) => box.checked).map((box) => item(box.value));
      return { element: set, items, show: (shown) => { for (const box of boxes) box.checked = chosen(shown).includes(box.value); } };
    }
    const select = make("select");
    select.setAttribute("aria-label", field.key);
    select.append(make("option", "not annotated", { value: "" }), ...field.offered.map((option) => make("option", option)));
    const items = () => (select.value ? [item(select.value)] : []);
    return { element: select, items, show: (shown) => { select.value = chosen(shown)[0] ?? ""; } };
  };
  const fieldRow = (one, field) => {
    const row = make("li", "", { className: "field" });
    const state = make("small", "as in gold");
    field.control = control(field);
    field.control.show(field.gold);
    const same = (other) => JSON.stringify(field.control.items()) === JSON.stringify(other);
    const changed = () => { state.textContent = same(field.gold) ? "as in gold" : "corrected"; touch(one); };
    field.control.element.addEventListener("input", changed);
    row.append(make("b", field.key), " ", field.control.element, " ", state);
    if (!same(field.found)) {
      const take = make("button", "take the answer", { type: "button", title: field.found.join("; ") || "nothing" });
      take.addEventListener("click", () => { field.control.show(field.found); changed(); });
      row.append(" ", take, " ", make("q", field.found.join("; ") || "nothing"));
    }
    return row;
  };

  const begin = (article) => {
    const source = article.querySelector(".text").textContent;
    const data = JSON.parse(article.dataset.case);
    const words = [...source.matchAll(/[\p{L}\p{N}]+/gu)].map((match) => {
      const start = length(source.slice(0, match.index));
      return { start, end: start + length(match[0]) };
    });
    const marks = data.marks.map((mark) => ({ ...mark, kept: mark.gold ? true : null }));
    const one = { article, data, source, text: Array.from(source), words, marks, selected: null, touched: false };
    cases.push(one);
    panel(one);
  };
  const quote = (one, { start, end }) => one.text.slice(start, end).join("");

  const panel = (one) => {
    const details = make("details", "", { className: "fix" });
    one.list = make("ul");
    const fields = make("ul");
    fields.append(...one.data.fields.map((field) => fieldRow(one, field)));
    const quoted = keys.filter((key) => !one.data.fields.some((field) => field.key === key));
    one.key = make("select");
    one.key.append(...quoted.map((key) => make("option", key)));
    one.key.setAttribute("aria-label", "Category of a missed finding");
    one.field = make("input", "", { type: "search", placeholder: "select words above, or type them" });
    one.field.setAttribute("aria-label", "Words of a missed finding");
    one.field.addEventListener("input", () => { one.selected = null; });
    one.said = make("span");
    one.said.setAttribute("role", "status");
    const add = make("button", "mark as missed", { type: "button" });
    add.addEventListener("click", () => mark(one));
    details.append(make("summary", "Correct this report"), one.list);
    if (quoted.length) details.append(one.key, " ", one.field, " ", add, " ", one.said);
    details.append(fields);
    one.article.querySelector(".body").append(details);
    draw(one);
  };

  const draw = (one) => {
    one.list.replaceChildren(...one.marks.map((item) => {
      const row = make("li", "", { className: item.kept === null ? "open" : item.kept ? "kept" : "gone" });
      const state = item.kept === null ? "not in gold" : item.kept ? "accepted" : "rejected";
      row.append(make("b", item.key), " ", make("q", quote(one, item)), " ", make("small", state), " ");
      const act = (label, does) => {
        const button = make("button", label, { type: "button" });
        button.addEventListener("click", () => { does(); touch(one, row, label); });
        row.append(button);
      };
      act("accept", () => { item.kept = true; });
      act("reject", () => { item.kept = false; });
      for (const side of ["start", "end"]) {
        act(`${side} ‹`, () => move(one, item, side, -1));
        act(`${side} ›`, () => move(one, item, side, 1));
      }
      return row;
    }));
  };
  // The list is drawn anew: the button that was pressed keeps the focus.
  const touch = (one, row, label) => {
    const at = row ? [...one.list.children].indexOf(row) : one.marks.length - 1;
    one.touched = true;
    draw(one);
    if (row) all("button", one.list.children[at]).find((button) => button.textContent === label).focus();
    const count = cases.filter((other) => other.touched).length;
    download.hidden = false;
    download.textContent = `download corrections of ${count} report${count === 1 ? "" : "s"}`;
  };
  const move = (one, item, side, by) => {
    const places = one.words.map((word) => word[side]);
    const next = by > 0 ? places.find((at) => at > item[side]) : places.findLast((at) => at < item[side]);
    const moved = { ...item, [side]: next };
    if (next !== undefined && moved.start < moved.end) Object.assign(item, moved, { kept: true });
  };
  const mark = (one) => {
    const wanted = one.field.value.trim();
    const at = one.source.indexOf(wanted);
    if (!one.selected && (!wanted || at < 0)) {
      one.said.textContent = wanted ? "these words are not in the report" : "select or type the words first";
      return;
    }
    const start = length(one.source.slice(0, Math.max(at, 0)));
    const place = one.selected || { start, end: start + length(wanted) };
    one.marks.push({ key: one.key.value, ...place, gold: false, kept: true });
    one.said.textContent = `marked: ${quote(one, place)}`;
    one.field.value = "";
    one.selected = null;
    touch(one);
  };

  document.addEventListener("selectionchange", () => {
    const selection = getSelection();
    if (selection.isCollapsed || !selection.rangeCount) return;
    const range = selection.getRangeAt(0);
    const text = range.startContainer.parentElement?.closest(".text");
    const one = text && cases.find((other) => other.article.contains(text));
    if (!one || !text.contains(range.endContainer)) return;
    const before = document.createRange();
    before.setStart(text, 0);
    before.setEnd(range.startContainer, range.startOffset);
    // Without the spaces that a hand takes along.
    const chosen = range.toString(), bare = chosen.trim();
    if (!bare) return;
    const start = length(before.toString()) + length(chosen) - length(chosen.trimStart());
    one.selected = { start, end: start + length(bare) };
    one.field.value = bare;
  });

  // One key after the other: an object would put headings that are numbers first.
  const object = (pairs) => `{${pairs.map(([key, value]) => `${JSON.stringify(key)}: ${value}`).join(", ")}}`;
  const line = (one) => {
    let at = 0;
    const sections = one.data.sections.map(([heading, size]) => {
      const start = at + length(`## ${heading}\n`);
      at = start + size + 2;
      return [heading, JSON.stringify(quote(one, { start, end: start + size }))];
    });
    const kept = one.marks.filter((item) => item.kept).sort((a, b) => a.start - b.start || a.end - b.end);
    const by = [...new Set(kept.map((item) => item.key))].map((key) => [key, kept.filter((item) => item.key === key)]);
    const gold = by.map(([key, items]) => [key, JSON.stringify(items.map((item) => quote(one, item)))]);
    gold.push(...one.data.fields.map((field) => [field.key, JSON.stringify(field.control.items())]));
    const places = by.map(([key, items]) => [key, JSON.stringify(items.map(({ start, end }) => [start, end]))]);
    const group = one.data.group ? [["group", JSON.stringify(one.data.group)]] : [];
    return object([["id", JSON.stringify(one.data.id)], ...group, ["sections", object(sections)], ["gold", object(gold)], ["places", object(places)]]);
  };
  download.addEventListener("click", () => {
    const lines = cases.filter((one) => one.touched).map((one) => `${line(one)}\n`);
    const address = URL.createObjectURL(new Blob(lines, { type: "application/jsonl" }));
    make("a", "", { href: address, download: "corrections.jsonl" }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  });

  for (const article of all(".case")) {
    const details = article.querySelector("details");
    const once = () => { if (details.open && !article.querySelector(".fix")) begin(article); };
    details.addEventListener("toggle", once);
    once();
  }
})();
