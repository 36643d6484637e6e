// An answer, as something to read: category, confidence, alternatives, what text and photo had in it.

import { make, percent, points } from "./dom.js";

const OPEN = 5; // candidates shown before a prediction set that is longer is folded

/** Fills `place` with an answer. `asked`: what was asked, in words; `took_ms`: from the request to here. */
export function showAnswer(place, answer, asked, took_ms) {
  place.replaceChildren(
    heading(answer, asked),
    candidates(answer),
    answer.contributions ? contributions(answer, asked) : "",
    make(
      "p",
      { class: "spoke hint" },
      "Model ",
      make("b", { id: "spoke" }, answer.model_version),
      `, ${Math.max(1, Math.round(took_ms))} ms, prediction `,
      make("code", { id: "prediction-id" }, answer.prediction_id),
    ),
  );
}

/** The answer in one sentence, for whoever listens to the page. */
export function spoken(answer) {
  const found = `${answer.name}, category ${answer.predicted_prdtypecode}, confidence ${percent(answer.confidence)}.`;
  return answer.abstained ? `The service abstains. Its best guess: ${found}` : found;
}

function heading(answer, asked) {
  const sure = make("p", { class: "sure" }, make("b", { id: "confidence" }, percent(answer.confidence)), " confident");
  const code = make("b", { id: "code" }, String(answer.predicted_prdtypecode));
  const found = make("div", {}, make("h2", { id: "name", lang: "fr" }, answer.name), make("p", { class: "code" }, "prdtypecode ", code));
  const how = "Calibrated: of answers this confident, about that share is right.";
  const warning = make(
    "p",
    { class: "abstained", id: "abstained" },
    make("b", {}, "The service abstains."),
    " It is not confident enough to decide; let a person do it. Its best guess:",
  );
  return make(
    "div",
    { class: answer.abstained ? "verdict unsure" : "verdict" },
    make("p", { class: "asked hint" }, asked.words),
    answer.abstained ? warning : "",
    make("div", { class: "found" }, found, sure),
    bar(answer.confidence, "whole"),
    make("p", { class: "hint" }, how),
  );
}

function bar(share, kind = "") {
  const fill = make("span", { class: "fill" });
  fill.style.width = `${100 * share}%`;
  return make("span", { class: `rail ${kind}`, "aria-hidden": "true" }, fill);
}

/** The longer of top_k and prediction_set (both in order of confidence), cut where the set ends. */
function candidates(answer) {
  const { top_k, prediction_set } = answer;
  const all = prediction_set.length > top_k.length ? prediction_set : top_k;
  const rows = all.map((each, rank) => candidate(each, rank < prediction_set.length));
  const held = prediction_set.reduce((sum, each) => sum + each.confidence, 0);
  const among = prediction_set.length === 1 ? "The first alone holds" : `The first ${prediction_set.length} hold`;
  const note = make(
    "p",
    { class: "hint", id: "prediction-set" },
    make("span", { class: "key-in", "aria-hidden": "true" }),
    `Prediction set: ${among.toLowerCase()} ${percent(Math.min(1, held))} of the probability.`,
  );
  const shown = Math.max(OPEN, top_k.length);
  const list = make("ol", { class: "candidates", id: "candidates" }, ...rows.slice(0, shown));
  const folded = rows.slice(shown);
  const rest = make("ol", { class: "candidates", start: shown + 1 }, ...folded);
  const fold = make("details", {}, make("summary", {}, `${folded.length} more in the prediction set`), rest);
  return make("div", { class: "block" }, make("h3", {}, "Candidates"), list, folded.length ? fold : "", note);
}

function candidate({ prdtypecode, name, confidence }, inSet) {
  return make(
    "li",
    { class: inSet ? "in" : "" },
    make("span", { class: "what" }, make("span", { lang: "fr" }, name), " ", make("small", {}, String(prdtypecode))),
    bar(confidence),
    make("span", { class: "number" }, percent(confidence)),
    inSet ? make("span", { class: "unseen" }, " in the prediction set") : "",
  );
}

/** Shapley values as steps from the confidence with nothing seen to the answer's; a step may go back. */
function contributions(answer, asked) {
  const { text, image } = answer.contributions;
  const start = answer.confidence - text - image;
  const steps = [
    { id: "base", label: "Seeing neither", from: 0, to: start, value: percent(Math.max(0, start)), kind: "base" },
    { id: "text", label: "Text", from: start, to: start + text, seen: asked.text },
    { id: "image", label: "Photo", from: start + text, to: answer.confidence, seen: asked.photo },
    { id: "total", label: "Together", from: 0, to: answer.confidence, value: percent(answer.confidence), kind: "whole" },
  ];
  const ends = steps.flatMap((each) => [each.from, each.to]);
  const [low, high] = [Math.min(0, ...ends), Math.max(1, ...ends)];
  const rows = steps.map((each) => step(each, low, high - low));
  return make(
    "div",
    { class: "block" },
    make("h3", {}, "What made it so"),
    make("dl", { class: "steps", id: "contributions" }, ...rows),
    make("p", { class: "hint" }, "Points of confidence in this category that each brought: Shapley values."),
  );
}

function step({ id, label, from, to, value, kind, seen }, low, width) {
  const fill = make("span", { class: "fill" });
  fill.style.left = `${(100 * (Math.min(from, to) - low)) / width}%`;
  fill.style.width = `${(100 * Math.abs(to - from)) / width}%`;
  const zero = make("span", { class: "zero" });
  zero.style.left = `${(-100 * low) / width}%`;
  const number = make("span", { class: "number" }, value ?? points(to - from));
  const direction = kind ?? (to < from ? "less" : "more");
  return make(
    "div",
    { class: `step ${direction}`, id: `step-${id}` },
    make("dt", {}, label, seen === false ? make("small", {}, " none given") : ""),
    make("dd", {}, make("span", { class: "rail", "aria-hidden": "true" }, fill, low < 0 ? zero : ""), number),
  );
}
