// The page of `s0 serve`: one prompt, the answers of the base and of up to three states, side by side as they come.
// Whatever a model, a state's files or the server say goes into the page as text, never as HTML.

const MOST_STATES = 3;
const FILTERED_FROM = 8; // so many states get a field to search them by name
const KEY = "s0-api-key"; // in this tab's own storage, which ends with the tab

const at = (id) => document.getElementById(id);
const needsKey = document.documentElement.dataset.apiKey === "needed";

let key = sessionStorage.getItem(KEY);
let settings; // what GET /playground says
let problem = null; // that was chosen: {task, id}, and the prompt that it came with
let running = null; // the AbortController of what is being asked
let items = new Map(); // of the list of states, by name, with the facts that each shows

// --- The server ---

class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

// A response of the server; anything but success is an error with the reason that it gives.
async function call(path, body, signal) {
  const headers = {};
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const method = body === undefined ? "GET" : "POST";
  const options = { method, headers, signal, cache: "no-store", credentials: "omit" };
  const response = await fetch(path, { ...options, body: body && JSON.stringify(body) }).catch((error) => {
    throw error.name === "AbortError" ? error : new Refused("The server does not answer; is it running?", 0);
  });
  if (response.ok) return response;
  const text = await response.text();
  let message = text || `status ${response.status}`;
  try {
    message = JSON.parse(text).error.message;
  } catch {} // no JSON: from a proxy in between
  if (response.status === 401) {
    askForKey();
    message = "The server does not know this key; type another one.";
  }
  throw new Refused(message, response.status);
}

const getJson = async (path) => (await call(path)).json();

// The events of a stream, parsed, until its end.
async function* eventsOf(response) {
  const decoder = new TextDecoder();
  let buffer = "";
  for (const reader = response.body.getReader(); ; ) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (buffer + decoder.decode(value, { stream: true })).split("\n\n");
    buffer = events.pop();
    for (const event of events) {
      const data = event.slice("data: ".length);
      if (data === "[DONE]") return;
      yield JSON.parse(data);
    }
  }
}

// --- Small parts of the page ---

// An element with attributes, properties and children; strings become text.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// What has happened; details for those who do not see the page.
function tell(message, details = "") {
  at("status").textContent = message;
  at("details").textContent = details;
}

// What has gone wrong, where everybody sees it; nothing takes it away.
function complain(message = "") {
  at("trouble").textContent = message;
  at("trouble").hidden = !message;
}

// Runs what a control asks for, and shows why where that fails.
function guarded(work) {
  return async (event) => {
    event?.preventDefault();
    complain();
    try {
      await work(event);
    } catch (error) {
      complain(error.message);
    }
  };
}

const number = (value) => value.toLocaleString("en");
const seconds = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

function bytes(n) {
  const [size, unit] = n < 1e6 ? [n / 1e3, "KB"] : [n / 1e6, "MB"];
  return `${size.toFixed(size < 10 ? 1 : 0)} ${unit}`;
}

// --- The API key ---

function askForKey() {
  key = null;
  sessionStorage.removeItem(KEY);
  at("everything").hidden = at("footer").hidden = true;
  at("key-form").hidden = false;
  at("key").focus();
}

at("key-form").addEventListener("submit", guarded(async () => {
  key = at("key").value.trim();
  at("key").value = "";
  await begin();
  sessionStorage.setItem(KEY, key);
  at("task").focus();
}));

at("forget").addEventListener("click", () => {
  askForKey();
  location.reload(); // whatever the page shows goes, too
});

// --- Prompt and problem ---

function showTasks() {
  at("task").replaceChildren(at("task").options[0]);
  for (const task of settings.tasks) at("task").append(make("option", { value: task.name }, task.name));
}

const taskNamed = (name) => settings.tasks.find((task) => task.name === name);

const SPLITS = {
  final: "final",
  select: "select: scales may have been chosen on it",
  train: "train: states may have learned it",
};

at("task").addEventListener("change", guarded(async () => {
  const task = taskNamed(at("task").value);
  at("problem-label").hidden = at("another").hidden = !task;
  at("problem").replaceChildren();
  if (!task) {
    problem = null;
    return noteProblem();
  }
  for (const [split, label] of Object.entries(SPLITS)) {
    const options = task.problems[split].map((id) => make("option", { value: id }, id));
    if (options.length) at("problem").append(make("optgroup", { label }, ...options));
  }
  at("max-tokens").value = Math.min(task.max_new_tokens, settings.max_new_tokens);
  await takeProblem();
}));
at("problem").addEventListener("change", guarded(takeProblem));
at("another").addEventListener("click", guarded(async () => {
  const { children } = at("problem").querySelector("optgroup");
  at("problem").value = children[Math.floor(Math.random() * children.length)].value;
  await takeProblem();
}));
at("chat").addEventListener("change", guarded(async () => {
  if (problem) await takeProblem();
}));

// Put the chosen problem into the prompt.
async function takeProblem() {
  const [task, id] = [at("task").value, at("problem").value];
  const chosen = await getJson(`playground/problem?${new URLSearchParams({ task, id })}`);
  if (at("task").value !== task || at("problem").value !== id) return; // another one was chosen meanwhile
  at("prompt").value = at("chat").checked ? chosen.request : chosen.prompt;
  problem = { task, id, prompt: at("prompt").value };
  noteProblem();
}

// Whether the prompt is that of a problem, letter by letter: else there is nothing to judge an answer by.
const isUntouched = () => problem !== null && at("prompt").value === problem.prompt;

function noteProblem() {
  at("problem-note").hidden = problem === null;
  at("problem-note").textContent = isUntouched()
    ? "Each whole answer is judged as s0 eval judges it."
    : "The prompt is no longer the problem’s, so answers are not judged.";
}
at("prompt").addEventListener("input", noteProblem);

// --- States ---

const picked = () => [...document.querySelectorAll("#states input:checked")].map((box) => box.value);

async function showStates(keep = picked()) {
  const { data } = await getJson("v1/states");
  const focused = document.activeElement;
  items = new Map(data.map((state) => {
    const facts = JSON.stringify(state);
    const known = items.get(state.id);
    const item = known?.facts === facts ? known.item : stateItem(state, keep.includes(state.id));
    return [state.id, { facts, item }];
  }));
  at("states").replaceChildren(...[...items.values()].map(({ item }) => item));
  if (focused.isConnected) focused.focus({ preventScroll: true }); // it has left with its list for a moment
  if (!data.length) at("states").append(make("li", { className: "soft" }, "None is served yet."));
  at("filter-label").hidden = data.length < FILTERED_FROM;
  filterStates();
  boundPicks();
}

function stateItem(state, isPicked) {
  const box = make("input", { type: "checkbox", value: state.id, checked: isPicked });
  box.addEventListener("change", boundPicks);
  const unload = make("button", { type: "button", className: "quiet", "aria-label": `Unload ${state.id}` }, "Unload");
  unload.addEventListener("click", guarded(() => unloadState(state.id)));
  const head = make("div", { className: "head" }, make("label", {}, box, make("bdi", {}, state.id)));
  if (state.loaded && !state.pinned) head.append(unload);
  if (state.trouble) return make("li", {}, head, make("p", { className: "loss" }, make("bdi", {}, state.trouble)));
  return make("li", {}, head, make("p", { className: "soft" }, sizeOf(state)), ...claimOf(state), provenanceOf(state));
}

function sizeOf(state) {
  const alpha = state.alpha === null ? "the published scale" : `scale α = ${Number(state.alpha.toPrecision(4))}`;
  const size = state.size_bytes === null ? [] : [bytes(state.size_bytes)];
  return [
    ...size,
    `${number(state.parameters)} numbers in ${state.layers} layers`,
    state.normalize ? `${alpha}, normalized` : alpha,
    ...(state.kind === "state" ? [] : [state.kind]),
    state.on_model ? "in memory" : state.loaded ? "on disk" : "not read yet",
    ...(state.pinned ? ["pinned"] : []),
  ].join(" · ");
}

const SIGNS = { helped: ["▲ ", "gain"], hurt: ["▼ ", "loss"] };

// What the state's record says that it has gained; nothing where there is none.
function claimOf(state) {
  if (!state.record) return [];
  const { task, effect, summary, reservation } = state.record;
  const [sign, colour] = SIGNS[effect] ?? ["○ ", "soft"];
  const finding = make("b", { className: colour }, `${sign}${effect}`);
  const claim = make("p", {}, finding, " on ", make("bdi", {}, task), `, its record says: ${summary}`);
  return reservation ? [claim, make("p", { className: "soft" }, reservation)] : [claim];
}

function provenanceOf(state) {
  const rows = [
    ["base model", state.base_model],
    ...Object.entries(state.training),
    ...state.cautions.map((caution) => ["to be read with care", caution]),
  ];
  const list = make("dl");
  for (const [name, value] of rows) {
    list.append(make("dt", {}, name), make("dd", {}, make("bdi", {}, value ?? "not recorded")));
  }
  return make("details", {}, make("summary", {}, "How it was trained"), list);
}

// At most three are picked: then the others cannot be.
function boundPicks() {
  const isFull = picked().length >= MOST_STATES;
  for (const box of document.querySelectorAll("#states input")) box.disabled = isFull && !box.checked;
}

function filterStates() {
  const wanted = at("filter-label").hidden ? "" : at("filter").value.toLowerCase();
  for (const item of at("states").children) {
    const box = item.querySelector("input");
    item.hidden = Boolean(box) && !box.checked && !box.value.toLowerCase().includes(wanted);
  }
}
at("filter").addEventListener("input", filterStates);

async function unloadState(name) {
  await call("v1/unload_lora_adapter", { lora_name: name });
  await showStates();
  at("states-title").focus(); // the button that was pressed is gone
  tell(`${name} is unloaded.`);
}

at("load").addEventListener("submit", guarded(async () => {
  const [name, path] = [at("load-name").value, at("load-path").value];
  await call("v1/load_lora_adapter", { lora_name: name, lora_path: path });
  await showStates();
  at("load").reset();
  tell(`${name} is loaded.`);
}));

// --- Answers ---

// One column: what somebody has answered so far.
export class Answer {
  constructor(name, base) {
    Object.assign(this, { name, base, text: "", isWhole: false, verdict: "", difference: "" });
    this.shown = make("pre", { tabIndex: 0, role: "group", "aria-busy": "true", "aria-label": `Answer of ${name}` });
    this.facts = make("p", { className: "soft" }, "waiting …");
    this.differs = make("p", { className: "soft" });
    this.judged = make("p");
    const title = make("h3", {}, make("bdi", {}, name));
    this.element = make("article", {}, title, this.facts, this.shown, this.differs, this.judged);
  }

  // Show the text, and where it first differs from the base's, as soon as that is certain.
  show() {
    const start = this.base ? firstDifference(this, this.base) : null;
    if (start === null) {
      this.shown.replaceChildren(this.text);
      if (this.base?.isWhole && this.isWhole) this.difference = "the same as the base’s";
    } else {
      const word = /^\s*\S*/.exec(this.text.slice(start))[0];
      const mark = word ? make("mark", {}, word) : make("mark", { className: "end" });
      this.shown.replaceChildren(this.text.slice(0, start), mark, this.text.slice(start + word.length));
      const lines = this.text.slice(0, start).split("\n");
      this.difference = `first differs at line ${lines.length}, character ${lines.at(-1).length + 1}`;
    }
    this.differs.textContent = this.difference;
  }

  end(facts) {
    this.shown.setAttribute("aria-busy", "false");
    this.facts.textContent = facts;
  }

  showVerdict(text, colour) {
    this.verdict = text;
    this.judged.className = colour;
    this.judged.textContent = text;
  }
}

// Where an answer first differs from the base's; null while that is not certain, and where it does not.
export function firstDifference(answer, base) {
  const shorter = Math.min(answer.text.length, base.text.length);
  let start = 0;
  while (start < shorter && answer.text[start] === base.text[start]) start += 1;
  if (start === shorter) {
    if (answer.text.length === base.text.length) return null;
    const isShorterWhole = answer.text.length < base.text.length ? answer.isWhole : base.isWhole;
    return isShorterWhole ? start : null;
  }
  const isWithinCharacter = /[\uDC00-\uDFFF]/.test(answer.text[start]); // of two units, the second one differs
  return isWithinCharacter ? start - 1 : start;
}

function requestFor(name) {
  const body = {
    model: name,
    max_tokens: at("max-tokens").valueAsNumber,
    temperature: at("temperature").valueAsNumber,
    seed: at("seed").valueAsNumber,
    stream: true,
    stream_options: { include_usage: true },
  };
  const prompt = at("prompt").value;
  if (at("chat").checked) return ["v1/chat/completions", { ...body, messages: [{ role: "user", content: prompt }] }];
  const stop = isUntouched() ? taskNamed(problem.task).stop : [];
  return ["v1/completions", { ...body, prompt, stop }];
}

async function stream(answer, [path, body], redraw) {
  const began = performance.now();
  let first = null;
  let nTokens = 0;
  let reason = "";
  const response = await call(path, body, running.signal);
  for await (const chunk of eventsOf(response)) {
    if (chunk.error) throw new Refused(chunk.error.message, 0);
    if (chunk.usage) nTokens = chunk.usage.completion_tokens;
    const [choice] = chunk.choices;
    if (!choice) continue;
    const text = choice.text ?? choice.delta?.content ?? "";
    if (text && first === null) {
      first = performance.now();
      answer.facts.textContent = `first token after ${seconds(first - began)}`;
    }
    reason = choice.finish_reason ?? reason;
    answer.text += text;
    redraw();
  }
  if (!reason) throw new Refused("the answer broke off; ask again", 0);
  const rate = nTokens > 1 && first !== null ? (1000 * (nTokens - 1)) / (performance.now() - first) : null;
  answer.isWhole = true;
  answer.end([
    `first token after ${first === null ? "–" : seconds(first - began)}`,
    `${rate === null ? "–" : number(Math.round(rate))} tokens/s`,
    `${number(nTokens)} token${nTokens === 1 ? "" : "s"}${reason === "length" ? ", cut off there" : ""}`,
  ].map((fact) => fact.replaceAll(" ", "\u00a0")).join(" · "));
  redraw();
}

async function judge(answer, { task, id }) {
  answer.showVerdict("being judged …", "soft");
  try {
    const response = await call("playground/verdict", { task, problem: id, completion: answer.text }, running.signal);
    const { passed, judged, reason } = await response.json();
    if (passed) answer.showVerdict("✓ passes", "gain");
    else answer.showVerdict(judged ? `✗ fails: ${reason}` : reason, judged ? "loss" : "soft");
  } catch (error) {
    answer.showVerdict(`no verdict: ${whyOf(error)}`, "soft");
  }
}

const whyOf = (error) => (error.name === "AbortError" ? "stopped" : error.message);

async function askAll() {
  if (running) return;
  const base = new Answer(settings.base, null);
  const answers = [base, ...picked().map((name) => new Answer(name, base))];
  begun(answers);
  const redraw = () => answers.forEach((answer) => answer.show());
  const judgedBy = isUntouched() ? problem : null;
  let judging = Promise.resolve(); // one verdict after the other
  await Promise.all(answers.map(async (answer) => {
    try {
      await stream(answer, requestFor(answer.name), redraw);
    } catch (error) {
      answer.end(whyOf(error));
      answer.facts.className = error.name === "AbortError" ? "soft" : "loss";
      return;
    }
    if (judgedBy) judging = judging.then(() => judge(answer, judgedBy));
  }));
  await judging;
  ended(answers);
  await showStates(); // those that were asked are in memory by now
}

function begun(answers) {
  running = new AbortController();
  at("answers").replaceChildren(...answers.map((answer) => answer.element));
  at("answers-section").hidden = false;
  at("stop").disabled = false;
  at("stop").focus(); // where one can go on from, while nothing else can be asked
  at("go").disabled = true;
  tell(`Asking ${answers.map((answer) => answer.name).join(", ")} …`);
}

function ended(answers) {
  const hadFocus = document.activeElement === at("stop");
  running = null;
  at("go").disabled = false;
  if (hadFocus) at("go").focus();
  at("stop").disabled = true;
  const all = answers.map(({ name, verdict, difference }) => [name, verdict, difference].filter(Boolean).join(", "));
  tell("All have ended.", ` ${all.join("; ")}.`);
}

at("ask").addEventListener("submit", guarded(askAll));
at("stop").addEventListener("click", () => running?.abort());

// --- At the beginning ---

async function begin() {
  settings = await getJson("playground");
  at("base").textContent = settings.base;
  document.title = `${settings.base} · s0 playground`;
  at("max-tokens").max = settings.max_new_tokens;
  at("max-tokens").value = Math.min(128, settings.max_new_tokens);
  at("chat-label").hidden = !settings.has_chat_template;
  at("chat").checked = settings.has_chat_template;
  showTasks();
  await showStates();
  at("key-form").hidden = true;
  at("everything").hidden = false;
  at("footer").hidden = !needsKey;
  complain();
}

if (needsKey && !sessionStorage.getItem(KEY)) askForKey();
else guarded(begin)();
