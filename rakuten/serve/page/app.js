// The page: a product goes in, an answer comes out.

import { apiKey, predict, Problem } from "./api.js";
import { showAnswer, spoken } from "./answer.js";
import { askForTruth, facts } from "./correction.js";
import { curl } from "./curl.js";
import { byId, make } from "./dom.js";
import { EXAMPLES } from "./examples.js";
import { PhotoField } from "./photo.js";
import { forgetRetries, hideProblem, sayBeside, showProblem } from "./problem.js";

const limits = JSON.parse(document.querySelector("main").dataset.limits);
const form = byId("product");
const photo = new PhotoField(limits);
let asking = null; // AbortController of the request under way

/** What is in the form: only what was given. */
function product() {
  const given = {};
  for (const name of ["designation", "description"]) {
    if (byId(name).value.trim()) given[name] = byId(name).value;
  }
  if (photo.file) given.image = photo.file;
  return given;
}

/** What is wrong with a product before it is sent; null where nothing is. */
function mistakes(given) {
  const found = {};
  if (!Object.keys(given).length) found.designation = "Give a title, a description or a photo.";
  for (const name of ["designation", "description"]) {
    const length = [...(given[name] ?? "")].length;
    if (limits.text_chars && length > limits.text_chars) {
      const [has, most] = [length, limits.text_chars].map((count) => count.toLocaleString("en"));
      found[name] = `${has} characters; the service takes up to ${most}.`;
    }
  }
  return Object.keys(found).length ? found : null;
}

function body(given) {
  if (!given.image) return given;
  const parts = new FormData();
  for (const [name, value] of Object.entries(given)) parts.append(name, value);
  return parts;
}

function words(given) {
  const title = given.designation ?? given.description;
  const short = title && title.length > 90 ? `${title.slice(0, 88).trimEnd()}…` : title;
  const text = short && `“${short}”`;
  return [text, given.image && (text ? "and a photo" : "A photo")].filter(Boolean).join(" ");
}

/** Sends what is in the form; a request under way is given up. */
async function ask() {
  stop();
  hideProblem();
  const given = product();
  const wrong = mistakes(given);
  if (wrong) {
    for (const [field, text] of Object.entries(wrong)) sayBeside(field, text);
    byId(Object.keys(wrong)[0]).focus();
    return;
  }
  asking = new AbortController();
  const { signal } = asking;
  const started = performance.now();
  think(true);
  try {
    const answer = await predict(body(given), signal);
    if (signal.aborted) return;
    forgetRetries();
    answered(answer, given, performance.now() - started);
  } catch (error) {
    if (signal.aborted) return;
    failed(error instanceof Problem ? error : unexpected(error));
  }
  showCommand(given);
  think(false);
  bringIntoView();
}

function unexpected(error) {
  console.error(error);
  return new Problem("The answer cannot be shown", `${error}`);
}

function answered(answer, given, took_ms) {
  const asked = { words: words(given), text: Boolean(given.designation ?? given.description), photo: Boolean(given.image) };
  showAnswer(byId("result"), answer, asked, took_ms);
  byId("result").hidden = false;
  askForTruth(answer);
  byId("status").textContent = spoken(answer);
  showModel(answer.model_version);
}

function failed(problem) {
  byId("result").hidden = true;
  byId("correction").hidden = true;
  const wait = problem.retryAfter === null ? "" : ` Trying again in ${problem.retryAfter} seconds.`;
  byId("status").textContent = `${problem.title}: ${problem.detail}${wait}`;
  showProblem(problem, ask);
}

function think(on) {
  byId("thinking").hidden = !on;
  byId("answer").toggleAttribute("aria-busy", on);
  for (const part of ["result", "correction", "terminal"]) byId(part).inert = on;
  if (on) byId("empty").hidden = true;
  if (on) byId("status").textContent = "Thinking";
  if (!on) asking = null;
}

function stop() {
  asking?.abort();
  if (asking) think(false);
}

function showCommand(given) {
  byId("terminal").hidden = false;
  byId("curl").textContent = curl(given, Boolean(apiKey()));
}

async function copyCommand() {
  const code = byId("curl");
  try {
    await navigator.clipboard.writeText(code.textContent);
    byId("copy").textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(code); // no clipboard without https: there it is, selected
    byId("copy").textContent = "Selected: press Ctrl+C";
  }
  setTimeout(() => (byId("copy").textContent = "Copy"), 2500);
}

/** On a phone the answer stands below the form. */
function bringIntoView() {
  const { top } = byId("answer").getBoundingClientRect();
  if (top > innerHeight * 0.6) byId("answer").scrollIntoView();
}

/** Escape: gives up the request under way, else empties everything. */
function clear() {
  if (asking) {
    stop();
    byId("status").textContent = "Stopped";
    byId("empty").hidden = !byId("result").hidden;
    return;
  }
  forgetRetries();
  hideProblem();
  form.reset();
  photo.clear();
  for (const part of ["result", "correction", "terminal"]) byId(part).hidden = true;
  byId("empty").hidden = false;
  byId("status").textContent = "Cleared";
  byId("designation").focus();
}

async function tryExample(example) {
  hideProblem();
  photo.clear();
  byId("designation").value = example.designation;
  byId("description").value = example.description;
  if (example.photo) {
    const fetched = await fetch(example.photo).then((response) => response.blob()).catch(() => null);
    if (fetched) await photo.take(new File([fetched], "example.jpg", { type: "image/jpeg" }));
  }
  ask();
}

async function showModel(version = null) {
  const known = await facts(version);
  const name = version ?? known?.model_version;
  byId("model").textContent = name ? `Model ${name}` : "";
  byId("model").title = known?.runtime ? `Runs on ${known.runtime}` : "";
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  forgetRetries();
  ask();
});
byId("description").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return; // alone it is a new line here
  event.preventDefault();
  form.requestSubmit();
});
document.addEventListener("keydown", (event) => event.key === "Escape" && !event.isComposing && clear());
byId("clear").addEventListener("click", clear);
byId("copy").addEventListener("click", copyCommand);
byId("examples").append(
  ...EXAMPLES.map((example) => {
    const button = make("button", { type: "button", class: "chip", onclick: () => tryExample(example) }, example.label);
    return make("li", {}, button);
  }),
);
showModel();
