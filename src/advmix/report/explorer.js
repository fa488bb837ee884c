"use strict";
// Sorts and filters the cards of the page, and steps through the image that is chosen.
const data = JSON.parse(document.getElementById("data").textContent);
const form = document.querySelector(".filters"), grid = document.querySelector(".grid");
const detail = document.querySelector(".detail"), count = document.querySelector(".count");
const slider = detail.querySelector("[name=step]"), again = detail.querySelector(".again");
const cards = new Map([...grid.children].map((card) => [Number(card.dataset.place), card]));
const LAST = 10, UNITS = { strength: Infinity, change: Infinity, natural: Infinity };
let listed = [], chosen = -1, step = 0;

const percent = (value, digits = 0) => `${(100 * value).toFixed(digits)} %`;
const field = (name) => (form.elements[name] ? form.elements[name].value : "");
const number = () => Number(field("classifier") || 0);
const answer = (place, which = number()) => data.images[place].answers[which];

function make(tag, words = "", kind = "") {
  const node = document.createElement(tag);
  node.textContent = words;
  if (kind) node.className = kind;
  return node;
}

function spoken(words) {
  const node = make("dd", words);
  node.title = words;
  return node;
}

function shownClassifiers() {
  const beside = field("beside");
  return beside === "" || Number(beside) === number() ? [number()] : [number(), Number(beside)];
}

function isWanted(place) {
  const image = data.images[place], one = answer(place);
  const same = (name) => field(name) === "" || image[name] === Number(field(name));
  if (!same("label") || !same("group") || !same("site")) return false;
  if (field("state") && one.state !== field("state")) return false;
  if (field("kind") && one.kind !== field("kind")) return false;
  if (one.strength !== null && 100 * one.strength > Number(field("most"))) return false;
  return !(form.elements.plain.checked && one.extreme);
}

function compared(first, second) {
  const order = field("order"), [a, b] = [answer(first), answer(second)];
  if (order === "name") return data.images[first].name.localeCompare(data.images[second].name, undefined, { numeric: true });
  if (order === "sure") return b.before[1] - a.before[1];
  const sizes = [a, b].map((one) => (one.strength === null || one[order] === null ? UNITS[order] : one[order]));
  return sizes[0] === sizes[1] ? first - second : sizes[0] - sizes[1];
}

function fillCard(place) {
  const card = cards.get(place), one = answer(place), words = card.querySelector("b");
  words.className = one.state;
  words.textContent = `${data.classes[one.before[0]]} → ${data.classes[one.after[0]]}`;
  const told = { wrong: "wrong as it is", withstands: "withstood", flips: "flips" }[one.state];
  card.querySelector("small").textContent = one.strength === null ? told : `${percent(one.strength)} of the way`;
  const columns = data.classifiers.length;
  card.querySelectorAll(".thumb")[1].style.backgroundPositionX = `${(100 * (number() + 1)) / columns}%`;
}

function fillKinds() {
  const menu = form.elements.kind, before = menu.value;
  const counts = new Map();
  data.images.forEach((_, place) => counts.set(answer(place).kind, (counts.get(answer(place).kind) || 0) + 1));
  counts.delete("");
  menu.replaceChildren(new Option("anything", ""), ...[...counts].sort((a, b) => b[1] - a[1]).map(([kind, total]) => new Option(`${kind} (${total})`, kind)));
  menu.value = counts.has(before) ? before : "";
  menu.closest("label").hidden = counts.size < 2;
}

function list() {
  form.elements.limit.value = `${field("most")} % of the way`;
  listed = [...cards.keys()].filter(isWanted).sort(compared);
  grid.replaceChildren(...listed.map((place) => cards.get(place)));
  count.textContent = listed.length ? `${listed.length.toLocaleString("en")} of ${data.images.length.toLocaleString("en")} images` : "No image is like this.";
  const flips = data.images.filter((_, place) => answer(place).state === "flips").length, all = data.images.length;
  const named = data.classifiers.length > 1 ? `: ${data.classifiers[number()]}` : "";
  document.querySelector("h1").textContent = `${flips.toLocaleString("en")} of ${all.toLocaleString("en")} answers flip${named}`;
  choose(listed.includes(chosen) ? chosen : listed.length ? listed[0] : -1);
}

function choose(place) {
  for (const card of cards.values()) card.firstElementChild.removeAttribute("aria-current");
  const moved = place !== chosen;
  chosen = place;
  detail.hidden = place < 0;
  if (place < 0) return;
  cards.get(place).firstElementChild.setAttribute("aria-current", "true");
  if (moved) step = answer(place).strength === null ? LAST : Math.min(LAST, Math.ceil(answer(place).strength * LAST));
  const image = data.images[place], named = (list, at) => (list.length > 1 ? [list[at]] : []);
  detail.querySelector("h2").textContent = image.name;
  detail.querySelector(".facts").textContent = [`labelled ${data.classes[image.label]}`, ...named(data.groups, image.group), ...named(data.sites, image.site)].join(", ");
  fillFrames(place);
  fillSizes(place);
  again.hidden = !data.command;
  again.querySelector("code").textContent = `${data.command} ${quoted(image.name)}`;
  show();
}

function quoted(name) {
  return /^[\w@%+=:,./-]+$/.test(name) ? name : `'${name.replaceAll("'", `'"'"'`)}'`;
}

function fillFrames(place) {
  const frames = detail.querySelector(".frames"), which = shownClassifiers();
  frames.classList.toggle("alone", which.length === 1);
  frames.replaceChildren(...which.map((at, row) => {
    const figure = make("figure", "", row ? "two" : "one"), box = make("div", "", "window"), strip = make("img");
    strip.src = `explore/${String(place).padStart(4, "0")}.jpg`;
    strip.style.width = `${100 * (LAST + 1)}%`;
    strip.style.height = `${100 * data.classifiers.length}%`;
    strip.style.top = `${-100 * at}%`;
    strip.addEventListener("error", () => box.classList.add("missing"));
    box.append(strip);
    const caption = make("figcaption");
    if (data.classifiers.length > 1) caption.append(make("span", data.classifiers[at], "name"));
    caption.append(make("b"), " ", make("span", "", "muted"));
    figure.append(box, caption);
    return figure;
  }));
}

function fillSizes(place) {
  const found = shownClassifiers().map((at) => answer(place, at));
  const rows = [
    ["flips at", (one) => (one.strength === null ? { wrong: "wrong as it is", withstands: "nothing found", flips: "–" }[one.state] : `${percent(one.strength)} of the way`)],
    ["pixels change by", (one) => percent(one.change, 1)],
    ["style", (one) => (one.natural === null ? "–" : `${percent(1 - one.natural)} of pairs of images differ as much${one.extreme ? "; extreme" : ""}`)],
    ["what changed", (one) => one.kind || "–"],
    ["label", (one) => one.check || "not checked"],
    ["style of", (one) => one.donor],
  ];
  detail.querySelector(".sizes").replaceChildren(...rows.map(([title, words]) => {
    const row = make("div", "", found.length > 1 ? "both" : "");
    row.append(make("dt", title), ...found.map((one) => spoken(words(one))));
    return row;
  }));
}

function drawCurves() {
  const left = 30, right = 324, top = 8, bottom = 96, svg = detail.querySelector(".curves");
  const x = (at) => left + ((right - left) * at) / LAST, y = (share) => bottom - (bottom - top) * share;
  const add = (tag, values, words = "") => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(values)) node.setAttribute(key, value);
    node.textContent = words;
    svg.append(node);
  };
  svg.replaceChildren();
  for (const share of [0, 0.5, 1]) {
    add("line", { x1: left, x2: right, y1: y(share), y2: y(share), class: "axis" });
    add("text", { x: left - 4, y: y(share) + 3, "text-anchor": "end" }, String(100 * share));
  }
  add("text", { x: left, y: 114 }, "probability of the label, in %, against the part of the way");
  add("line", { x1: x(step), x2: x(step), y1: top, y2: bottom, class: "now" });
  const which = shownClassifiers();
  which.forEach((at, row) => {
    const curve = answer(chosen, at).curve, kind = row ? "two" : "one";
    add("polyline", { class: kind, points: curve.map((share, place) => `${x(place).toFixed(1)},${y(share).toFixed(1)}`).join(" ") });
    add("circle", { class: kind, cx: x(step), cy: y(curve[step]), r: 3.5 });
  });
  svg.setAttribute("aria-label", which.map((at) => `${data.classifiers[at]}: ${answer(chosen, at).curve.map((share) => percent(share)).join(", ")}`).join("; "));
}

function show() {
  slider.value = step;
  const words = step ? `${10 * step} % of the way` : "as it is";
  detail.querySelector(".way span").textContent = words;
  slider.setAttribute("aria-valuetext", words);
  const label = data.images[chosen].label;
  detail.querySelectorAll("figure").forEach((figure, row) => {
    const one = answer(chosen, shownClassifiers()[row]), strip = figure.querySelector("img"), told = figure.querySelector("b");
    strip.style.left = `${-100 * step}%`;
    strip.alt = `${data.images[chosen].name}, ${words}`;
    told.textContent = data.classes[one.answers[step]];
    told.className = one.answers[step] === label ? "right" : "wrong";
    figure.querySelector(".muted").textContent = `label ${percent(one.curve[step])}`;
  });
  drawCurves();
}

function move(by) {
  const place = listed[Math.min(listed.length - 1, Math.max(0, listed.indexOf(chosen) + by))];
  if (place === undefined) return;
  const held = grid.contains(document.activeElement);
  choose(place);
  const button = cards.get(place).firstElementChild;
  if (held) button.focus({ preventScroll: true });
  if (matchMedia("(min-width: 981px)").matches) button.scrollIntoView({ block: "nearest" });
}

function stepBy(by) {
  step = Math.min(LAST, Math.max(0, step + by));
  show();
}

async function copy() {
  const code = again.querySelector("code"), button = again.querySelector("button");
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch {
    getSelection().selectAllChildren(code);
    document.execCommand("copy");
  }
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy the command"; }, 1500);
}

const KEYS = { ArrowLeft: () => stepBy(-1), ArrowRight: () => stepBy(1), ArrowUp: () => move(-1), ArrowDown: () => move(1) };

document.addEventListener("keydown", (event) => {
  const inForm = event.target.closest("select, .filters");
  if (inForm || detail.hidden || event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
  event.preventDefault();
  KEYS[event.key]();
});
grid.addEventListener("click", (event) => {
  const card = event.target.closest("li");
  if (card) choose(Number(card.dataset.place));
});
form.addEventListener("input", (event) => {
  if (event.target.name === "classifier") {
    cards.forEach((_, place) => fillCard(place));
    fillKinds();
  }
  list();
});
form.addEventListener("submit", (event) => event.preventDefault());
slider.addEventListener("input", () => stepBy(Number(slider.value) - step));
again.querySelector("button").addEventListener("click", copy);
detail.querySelector("[name=previous]").addEventListener("click", () => move(-1));
detail.querySelector("[name=next]").addEventListener("click", () => move(1));

form.hidden = count.hidden = false;
document.querySelector(".explorer").classList.add("ready");
if (form.elements.beside) form.elements.beside.value = "1";
if (!data.images.some((_, place) => answer(place).state === "flips")) form.elements.state.value = "";
fillKinds();
list();
