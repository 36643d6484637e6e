// What went wrong, in words, and the way on: a countdown, a retry, a key.

import { setApiKey } from "./api.js";
import { byId, make } from "./dom.js";

const AUTOMATIC = 20; // retries without a hand on the mouse: a model may take minutes to load
const FIELDS = { designation: "designation", description: "description", image: "photo" };

let timer = null;
let retried = 0;

/** Shows a Problem; `again` asks once more. */
export function showProblem(problem, again) {
  hideProblem();
  const box = byId("problem");
  const beside = besideFields(problem.errors);
  const rest = problem.errors.filter((each) => !beside.includes(each));
  const retry = () => {
    hideProblem();
    again();
  };
  box.replaceChildren(
    make("h2", {}, problem.title),
    problem.errors.length ? "" : make("p", {}, sentence(problem.detail)),
    beside.length ? make("p", {}, "What is wrong stands beside the field.") : "",
    rest.length ? make("ul", {}, ...rest.map((each) => make("li", {}, `${each.field}: ${each.detail}`))) : "",
    way(problem, retry),
    explained(problem.type),
  );
  box.hidden = false;
}

/** A link to what the service says of this kind of problem; only where it is the service's own. */
function explained(type) {
  const own = typeof type === "string" && type.startsWith("/") && !type.startsWith("//");
  return own ? make("p", { class: "more" }, make("a", { href: type.slice(1) }, "More about this problem")) : "";
}

/** Takes a problem off the page, with what it says beside the fields and what would have been tried again. */
export function hideProblem() {
  clearInterval(timer);
  byId("problem").hidden = true;
  for (const field of Object.values(FIELDS)) sayBeside(field, "");
}

export function forgetRetries() {
  retried = 0;
}

export function sayBeside(field, text) {
  byId(`${field}-error`).textContent = text;
  const input = byId(field === "photo" ? "photo-file" : field);
  if (text) input.setAttribute("aria-invalid", "true");
  else input.removeAttribute("aria-invalid");
}

/** Writes the errors that belong to a field of the page beside it; gives those. */
function besideFields(errors) {
  const placed = errors.filter((each) => fieldOf(each) !== undefined);
  for (const each of placed) sayBeside(fieldOf(each), sentence(each.detail));
  return placed;
}

function fieldOf(error) {
  const part = String(error.field).split(".").find((name) => Object.hasOwn(FIELDS, name));
  return FIELDS[part];
}

function way(problem, retry) {
  if (problem.status === 401) return keyForm(retry);
  if (problem.retryAfter !== null && retried < AUTOMATIC) return countdown(problem.retryAfter, retry);
  const mendable = problem.status === 0 || problem.status >= 500 || problem.retryAfter !== null;
  return mendable ? make("p", {}, make("button", { type: "button", class: "quiet", onclick: retry }, "Try again")) : "";
}

function countdown(wait_s, retry) {
  let left = wait_s;
  // Silent for screen readers: one sentence a second is no help.
  const clock = make("span", { class: "clock", "aria-hidden": "true" });
  const tick = () => (clock.textContent = `Trying again in ${left} s`);
  const stop = make("button", { type: "button", class: "quiet" }, "Stop");
  const now = make("button", { type: "button", class: "quiet", onclick: retry }, "Try now");
  timer = setInterval(() => {
    left -= 1;
    tick();
    if (left <= 0) {
      retried += 1;
      retry();
    }
  }, 1000);
  stop.onclick = () => {
    clearInterval(timer);
    clock.textContent = "";
    stop.remove();
    now.textContent = "Try again";
    now.focus();
  };
  tick();
  return make("p", { class: "way" }, clock, now, stop);
}

/** Asks for a key, kept until the tab is closed. */
export function keyForm(then) {
  const input = make("input", { type: "password", id: "key", autocomplete: "off", required: true });
  const form = make(
    "form",
    { class: "key" },
    make("label", { class: "label", for: "key" }, "API key"),
    make("p", { class: "row" }, input, make("button", { type: "submit", class: "primary" }, "Use it")),
    make("p", { class: "hint" }, "Kept in this tab until it is closed; sent to this service alone."),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    setApiKey(input.value.trim());
    then();
  });
  return form;
}

/** A detail as a sentence: the service writes them without a capital and a full stop. */
export function sentence(text) {
  if (!text) return "";
  const capital = text[0].toUpperCase() + text.slice(1);
  return /[.!?…]$/.test(capital) ? capital : `${capital}.`;
}
