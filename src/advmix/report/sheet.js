"use strict";
// Counts the answers to the sheets of an audit, and saves them as votes.json.
const forms = [...document.querySelectorAll("form.sheet")];

function answered(form) {
  return [...form.querySelectorAll("input:checked")].map((input) => {
    const field = input.closest("fieldset");
    return { place: field.dataset.place, vote: input.value, reference: field.dataset.vote };
  });
}

function wilson(hits, total) {
  const z = 1.959964, share = hits / total, extra = (z * z) / total;
  const middle = (share + extra / 2) / (1 + extra);
  const half = (z * Math.sqrt((share * (1 - share)) / total + extra / (4 * total))) / (1 + extra);
  return [Math.max(0, middle - half), Math.min(1, middle + half)].map((end) => Math.round(100 * end));
}

function tally(form) {
  const said = answered(form), kept = said.filter((one) => one.vote === "kept").length;
  const asked = form.querySelectorAll("fieldset").length;
  let words = `Answered: ${said.length} of ${asked}.`;
  if (said.length && form.dataset.kept === undefined) {
    const [low, high] = wilson(kept, said.length);
    words += ` The label is kept in ${kept}: ${Math.round((100 * kept) / said.length)} % (${low} to ${high} %) of the flips.`;
  } else if (said.length) {
    let all = Number(form.dataset.kept), voted = all + Number(form.dataset.lost);
    for (const one of said) {
      if (one.reference === "kept") all -= 1;
      if (!one.reference) voted += 1;
    }
    words += ` The label is kept in ${kept} of these, and with the votes of the reference on the others in ${all + kept} of ${voted} flips.`;
  }
  form.querySelector(".tally").textContent = words;
}

function save() {
  const votes = {};
  for (const form of forms) {
    votes[form.dataset.name] = Object.fromEntries(answered(form).map((one) => [one.place, one.vote]));
  }
  const text = JSON.stringify({ audit: document.body.dataset.audit, votes }, null, 2) + "\n";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = "votes.json";
  link.click();
  URL.revokeObjectURL(link.href);
}

for (const form of forms) {
  const button = form.querySelector("button");
  button.hidden = false;
  button.addEventListener("click", save);
  form.addEventListener("change", () => tally(form));
  tally(form);
}
