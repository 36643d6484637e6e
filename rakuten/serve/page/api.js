// The service's published API, and everything that can come instead of an answer.

const ANSWER_MS = 60_000;
const KEY = "rakuten-api-key";

/** What went wrong, in words for a person. `errors` are the service's, field by field. */
export class Problem extends Error {
  constructor(title, detail, { status = 0, type = null, errors = [], retryAfter = null } = {}) {
    super(`${title}: ${detail}`);
    Object.assign(this, { title, detail, status, type, errors, retryAfter });
  }
}

// Kept for as long as the tab is open, and only there.
let memory = null;

export function apiKey() {
  try {
    return sessionStorage.getItem(KEY) ?? memory;
  } catch {
    return memory;
  }
}

export function setApiKey(key) {
  memory = key || null;
  try {
    if (key) sessionStorage.setItem(KEY, key);
    else sessionStorage.removeItem(KEY);
  } catch {
    // Storage is switched off: memory has it.
  }
}

export const predict = (body, signal) => send("POST", "predict?explain=true", body, signal);
export const feedback = (body) => send("POST", "feedback", body);
export const model = () => send("GET", "model");

/** The answer's JSON. Rejects with a Problem, or with an AbortError where `signal` was aborted. */
async function send(method, path, body, signal) {
  const headers = { Accept: "application/json, application/problem+json" };
  if (apiKey()) headers.Authorization = `Bearer ${apiKey()}`;
  const isForm = body instanceof FormData;
  if (body !== undefined && !isForm) headers["Content-Type"] = "application/json";
  const timeout = AbortSignal.timeout(ANSWER_MS);
  let response, text;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: isForm || body === undefined ? body : JSON.stringify(body),
      signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
      cache: "no-store",
    });
    text = await response.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw unreachable(error);
  }
  return read(response, text);
}

function unreachable(error) {
  if (error.name === "TimeoutError") {
    return new Problem("No answer", `The service said nothing for ${ANSWER_MS / 1000} seconds.`);
  }
  const offline = navigator.onLine === false;
  const detail = offline ? "This device is offline." : "It may have been stopped, or the connection was cut.";
  return new Problem("The service cannot be reached", detail);
}

function read(response, text) {
  const answer = parse(text);
  if (response.ok && answer !== null) return answer;
  const status = response.status;
  const retryAfter = seconds(response.headers.get("Retry-After"));
  if (answer === null || typeof answer.title !== "string") {
    const detail = `It came with status ${status}; perhaps something between this page and the service spoke.`;
    throw new Problem("The answer cannot be read", detail, { status, retryAfter });
  }
  const errors = Array.isArray(answer.errors) ? answer.errors : [];
  throw new Problem(answer.title, answer.detail ?? "", { status, type: answer.type, errors, retryAfter });
}

/** The object that a text holds as JSON, else null. */
function parse(text) {
  try {
    const value = JSON.parse(text);
    return typeof value === "object" ? value : null;
  } catch {
    return null;
  }
}

/** Retry-After is a number of seconds or a date (RFC 9110, 10.2.3). */
function seconds(header) {
  if (header === null) return null;
  const wait = /^\d+$/.test(header) ? Number(header) : (Date.parse(header) - Date.now()) / 1000;
  return Number.isFinite(wait) ? Math.max(1, Math.ceil(wait)) : null;
}
