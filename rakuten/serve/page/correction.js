// What the product truly is, said by a person: POST /feedback.

import { feedback, model } from "./api.js";
import { Combobox } from "./combobox.js";
import { byId, make } from "./dom.js";
import { sentence } from "./problem.js";

let known = null; // what GET /model said last

/** The served model's facts, kept until another version speaks; null where they cannot be had. */
export async function facts(version = null) {
  if (known && (version === null || known.model_version === version)) return known;
  try {
    known = await model();
  } catch {
    // An answer's own candidates stand in for the whole list.
  }
  return known;
}

/** All categories: an answer's candidates first, as it ranks them, then the others by name. */
function options(answer) {
  const ranked = answer.prediction_set.length > answer.top_k.length ? answer.prediction_set : answer.top_k;
  const seen = new Set(ranked.map((each) => each.prdtypecode));
  const others = (known?.labels ?? []).filter((each) => !seen.has(each.prdtypecode));
  return [...ranked, ...others.toSorted((a, b) => a.name.localeCompare(b.name, "fr"))];
}

/** Asks below an answer whether it is right. */
export function askForTruth(answer) {
  const place = byId("correction");
  const state = make("p", { class: "state", role: "status" });
  const send = make("button", { type: "submit", class: "quiet", disabled: true }, "Send the correction");
  const box = new Combobox("truth", () => options(answer), (option) => (send.disabled = option === null));
  const yes = make("button", { type: "button", class: "quiet", id: "right" }, "Yes, it is right");
  const tell = async (option) => {
    state.className = "state";
    state.textContent = "Sending…";
    try {
      await feedback({ prediction_id: answer.prediction_id, prdtypecode: option.prdtypecode });
      state.classList.add("done");
      state.textContent = `Noted: ${option.name} (${option.prdtypecode}). Thank you.`;
    } catch (problem) {
      state.classList.add("failed");
      state.textContent = `Not stored. ${sentence(problem.title)} ${sentence(problem.detail)}`;
    }
  };
  yes.addEventListener("click", () => tell({ prdtypecode: answer.predicted_prdtypecode, name: answer.name }));
  const form = make(
    "form",
    { class: "truth" },
    make("p", {}, yes),
    make("label", { class: "label", for: "truth" }, "No, it is"),
    make("div", { class: "row" }, box.element, send),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (box.chosen) tell(box.chosen);
  });
  place.replaceChildren(make("h3", {}, "Is it right?"), form, state);
  place.hidden = false;
  facts(answer.model_version);
}
