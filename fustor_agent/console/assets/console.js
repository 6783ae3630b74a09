// The console's page: asks for the status every second and shows it. Everything that comes
// from the agent (names of files, errors) goes into the page as text, never as markup.
"use strict";

const INTERVAL_MS = 1000;
const TIMEOUT_MS = 5000;
const OUTCOME_MS = 8000;
const HISTORY_LENGTH = 60;
const BROKEN = new Set(["fatal", "abandoned", "backoff"]);
const UNITS = ["B", "kB", "MB", "GB", "TB", "PB"];
const ACTIONS = { snapshot: "Take snapshot", audit: "Run audit", restart: "Restart", stop: "Stop", start: "Start" };

const byId = (id) => document.getElementById(id);
const cards = new Map();
const rows = new Map();
let lastSeen = null;
let outcomeTimer = null;

// -- writing numbers and times for people -----------------------------------------------------

const formatCount = (count) => count.toLocaleString("en");

function formatBytes(count) {
  let unit = 0;
  while (count >= 1000 && unit < UNITS.length - 1) {
    count /= 1000;
    unit += 1;
  }
  return `${unit === 0 || count >= 100 ? count.toFixed(0) : count.toFixed(1)} ${UNITS[unit]}`;
}

function formatDuration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

function formatTime(iso) {
  const at = new Date(iso);
  const sameDay = at.toDateString() === new Date().toDateString();
  return sameDay ? at.toLocaleTimeString() : at.toLocaleString();
}

// -- what a state means -----------------------------------------------------------------------

function judgePipe(pipe) {
  if (!pipe.enabled) return ["switched off", "idle"];
  if (pipe.problem) return [BROKEN.has(pipe.state) ? pipe.state : "problem", "bad"];
  if (pipe.current) return ["current", "good"];
  if (pipe.state === "stopped") return ["stopped", "idle"];
  if (pipe.state !== "running") return [pipe.state, "busy"];
  return [pipe.snapshot.state === "running" ? "taking snapshot" : "catching up", "busy"];
}

function judgeWorker(worker) {
  if (worker.state === "running") return "good";
  if (BROKEN.has(worker.state)) return "bad";
  return worker.state === "stopped" ? "idle" : "busy";
}

function judgeAll(status) {
  if (status.agent.state !== "running") return [status.agent.state, "busy"];
  const pipes = status.pipes.filter((pipe) => pipe.enabled).map((pipe) => judgePipe(pipe)[1]);
  const workers = status.workers.map(judgeWorker);
  if (status.agent.problems.length || pipes.includes("bad") || workers.includes("bad")) return ["needs attention", "bad"];
  if (pipes.includes("busy") || workers.includes("busy")) return ["catching up", "busy"];
  return pipes.includes("good") ? ["all current", "good"] : ["running", "idle"];
}

// -- putting it into the page -----------------------------------------------------------------

function setText(node, text) {
  // Only what differs: selections survive, and screen readers hear changes, not repetitions.
  if (node.textContent !== text) node.textContent = text;
}

function setTone(node, tone) {
  if (node.dataset.tone !== tone) node.dataset.tone = tone;
}

function setPill(node, [word, tone]) {
  setText(node, word);
  setTone(node, tone);
}

function removeOthers(known, keep) {
  for (const [key, entry] of known) {
    if (!keep.has(key)) {
      entry.root.remove();
      known.delete(key);
    }
  }
}

function makeCard(id) {
  const root = byId("pipe-template").content.firstElementChild.cloneNode(true);
  const fields = Object.fromEntries([...root.querySelectorAll("[data-field]")].map((node) => [node.dataset.field, node]));
  for (const [action, label] of Object.entries(ACTIONS)) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = label;
    button.dataset.action = action;
    button.addEventListener("click", () => act(`/api/pipes/${encodeURIComponent(id)}/${action}`, `${label}, ${id}`));
    fields.buttons.append(button);
  }
  byId("pipes").append(root);
  return { root, fields, history: [], counted: null };
}

function showPipe(pipe) {
  if (!cards.has(pipe.id)) cards.set(pipe.id, makeCard(pipe.id));
  const card = cards.get(pipe.id);
  const { fields } = card;
  const [word, tone] = judgePipe(pipe);
  setText(fields.id, pipe.id);
  setPill(fields.state, [word, tone]);
  setText(fields.from, pipe.source_uri ?? pipe.source_id);
  setText(fields.to, pipe.totals && pipe.sender_id === pipe.id ? "the Fusion inside this agent" : pipe.sender_id);
  const because = pipe.problem ?? pipe.not_current_because;
  fields.because.hidden = because === null;
  setText(fields.because, because ?? "");
  setTone(fields.because, tone);
  fields.progress.hidden = pipe.snapshot.state !== "running" || tone === "bad";
  if (pipe.snapshot.progress == null) fields.progress.removeAttribute("value");
  else fields.progress.value = pipe.snapshot.progress;
  fields.headline.hidden = fields.counters.hidden = !pipe.enabled;
  fields.totals.hidden = pipe.totals === null;
  if (pipe.totals) {
    setText(fields.files, formatCount(pipe.totals.files));
    setText(fields.directories, formatCount(pipe.totals.directories));
    setText(fields.bytes, formatBytes(pipe.totals.bytes));
  }
  showRate(card, pipe.counters.acknowledged);
  showCounters(fields.counters, pipe);
  showSkipped(fields, pipe.skipped);
  fields.buttons.hidden = byId("token").value === "" || !pipe.enabled;
  for (const button of fields.buttons.children) {
    button.hidden = button.dataset.action === (pipe.state === "stopped" ? "stop" : "start");
  }
}

function showRate(card, acknowledged) {
  const now = performance.now();
  if (card.counted !== null && now > card.counted.at) {
    const rate = ((acknowledged - card.counted.value) * 1000) / (now - card.counted.at);
    card.history.push(Math.max(0, rate));
    card.history.splice(0, card.history.length - HISTORY_LENGTH);
  }
  card.counted = { value: acknowledged, at: now };
  const highest = Math.max(1, ...card.history);
  const first = HISTORY_LENGTH - card.history.length;
  const points = card.history.map((rate, place) => {
    const x = ((first + place) * 240) / (HISTORY_LENGTH - 1);
    return `${x.toFixed(1)},${(38 - (36 * rate) / highest).toFixed(1)}`;
  });
  const start = ((first * 240) / (HISTORY_LENGTH - 1)).toFixed(1);
  card.fields.line.setAttribute("points", points.join(" "));
  card.fields.area.setAttribute("points", points.length ? `${start},40 ${points.join(" ")} 240,40` : "");
  setText(card.fields.rate, formatCount(Math.round(card.history.at(-1) ?? 0)));
}

function showCounters(list, pipe) {
  const counters = pipe.counters;
  const facts = [
    ["Captured", formatCount(counters.captured)],
    ["Pushed", formatCount(counters.pushed)],
    ["Acknowledged", formatCount(counters.acknowledged)],
    ["Pending", formatCount(counters.pending)],
    ["To read again", formatCount(counters.dirty), counters.dirty ? "busy" : ""],
    ["Overflows", formatCount(counters.overflows), counters.overflows ? "busy" : ""],
    ["Lost", formatCount(counters.lost), counters.lost ? "bad" : ""],
    ["Lag", pipe.lag_s < 10 ? `${pipe.lag_s.toFixed(1)} s` : formatDuration(pipe.lag_s), pipe.lag_s > 60 ? "busy" : ""],
    ["Phase", pipe.phase || "–"],
    ["Role", pipe.role ?? "no session"],
    ["Session", pipe.session_id ?? "–"],
    ["Snapshot", describeSnapshot(pipe.snapshot), pipe.snapshot.state === "failed" ? "bad" : ""],
    ...Object.entries(pipe.details).map(([name, value]) => [name.replaceAll("_", " "), formatCount(value)]),
  ];
  while (list.children.length > facts.length) list.lastElementChild.remove();
  facts.forEach(([name, value, tone = ""], place) => {
    let box = list.children[place];
    if (!box) {
      box = document.createElement("div");
      box.append(document.createElement("dt"), document.createElement("dd"));
      list.append(box);
    }
    setText(box.firstElementChild, name);
    setText(box.lastElementChild, value);
    setTone(box.lastElementChild, tone);
  });
}

function describeSnapshot(snapshot) {
  if (snapshot.state === "done") return snapshot.finished_at ? formatTime(snapshot.finished_at) : "done";
  if (snapshot.state !== "running") return snapshot.state;
  const share = snapshot.progress == null ? "" : `, ${Math.floor(snapshot.progress * 100)} %`;
  return `${formatCount(snapshot.rows + snapshot.compared)} rows${share}`;
}

function showSkipped(fields, skipped) {
  const entries = Object.entries(skipped);
  fields["skipped-box"].hidden = entries.length === 0;
  setText(fields["skipped-title"], entries.length === 1 ? "1 place cannot be read" : `${entries.length} places cannot be read`);
  const lines = entries.map(([place, reason]) => `${place}: ${reason}`);
  const shown = [...fields.skipped.children].map((node) => node.textContent);
  if (lines.join("\n") === shown.join("\n")) return;
  fields.skipped.replaceChildren(
    ...lines.map((line) => {
      const node = document.createElement("li");
      node.textContent = line;
      return node;
    }),
  );
}

function makeRow() {
  const root = document.createElement("tr");
  const labels = ["", "", "PID", "Memory", "CPU", "Up", "Restarts", ""];
  const cells = labels.map((label, place) => {
    const cell = document.createElement("td");
    if (label) {
      cell.dataset.label = label;
      cell.className = "number";
    }
    if (place === 1) {
      const pill = document.createElement("span");
      pill.className = "pill";
      cell.append(pill);
    }
    root.append(cell);
    return cell;
  });
  byId("workers").append(root);
  return { root, cells };
}

function showWorker(worker) {
  if (!rows.has(worker.name)) rows.set(worker.name, makeRow());
  const { cells } = rows.get(worker.name);
  setText(cells[0], worker.name);
  setPill(cells[1].firstElementChild, [worker.state, judgeWorker(worker)]);
  setText(cells[2], worker.pid === null ? "–" : String(worker.pid));
  setText(cells[3], worker.rss_bytes === null ? "–" : formatBytes(worker.rss_bytes));
  setText(cells[4], worker.cpu_percent === null ? "–" : `${worker.cpu_percent.toFixed(1)} %`);
  setText(cells[5], worker.pid === null ? "–" : formatDuration(worker.uptime_s));
  setText(cells[6], formatCount(worker.restarts));
  setText(cells[7], describeExit(worker));
}

function describeExit(worker) {
  const parts = [];
  if (worker.retry_in_s !== null) parts.push(`next try in ${worker.retry_in_s.toFixed(0)} s`);
  if (worker.state !== "running" && worker.last_error) parts.push(worker.last_error);
  else if (worker.last_exit) parts.push(`${formatTime(worker.last_exit.at)}: ${worker.last_exit.reason}`);
  return parts.join("; ");
}

function showStatus(status) {
  const { agent } = status;
  const overall = judgeAll(status);
  setPill(byId("overall"), overall);
  document.title = `${overall[0]} – Fustor Agent`;
  const uptime = formatDuration((Date.now() - Date.parse(agent.started_at)) / 1000);
  setText(byId("facts"), `Version ${agent.version}, pid ${agent.pid}, up ${uptime}${agent.config ? `, ${agent.config}` : ""}`);
  setText(byId("problems"), agent.problems.join("; "));
  byId("problems").hidden = agent.problems.length === 0;
  removeOthers(cards, new Set(status.pipes.map((pipe) => pipe.id)));
  status.pipes.forEach(showPipe);
  byId("no-pipes").hidden = status.pipes.length > 0;
  removeOthers(rows, new Set(status.workers.map((worker) => worker.name)));
  status.workers.forEach(showWorker);
}

// -- asking -----------------------------------------------------------------------------------

async function refresh() {
  try {
    const response = await fetch("/api/status", { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
    const body = await response.json();
    if (!response.ok) throw new Error(body.detail);
    showStatus(body);
    lastSeen = new Date();
    setGone(null);
  } catch (error) {
    setGone(error);
  }
  setTimeout(refresh, INTERVAL_MS);
}

function setGone(error) {
  byId("gone").hidden = error === null;
  document.body.classList.toggle("is-gone", error !== null);
  if (error === null) {
    setText(byId("updated"), `Updated ${lastSeen.toLocaleTimeString()}, every second`);
    return;
  }
  setPill(byId("overall"), ["gone", "bad"]);
  document.title = "gone – Fustor Agent";
  setText(byId("gone-since"), lastSeen ? `What you see is from ${lastSeen.toLocaleTimeString()}.` : "");
}

async function act(path, name) {
  const outcome = byId("outcome");
  clearTimeout(outcomeTimer);
  outcome.hidden = false;
  setTone(outcome, "");
  setText(outcome, `${name}…`);
  try {
    const headers = { Authorization: `Bearer ${byId("token").value.trim()}` };
    const response = await fetch(path, { method: "POST", headers });
    const body = await response.json();
    setTone(outcome, response.ok ? "" : "bad");
    setText(outcome, `${name}: ${body.detail || "done"}`);
  } catch (error) {
    setTone(outcome, "bad");
    setText(outcome, `${name}: the agent does not answer (${error.message})`);
  }
  outcomeTimer = setTimeout(() => { outcome.hidden = true; }, OUTCOME_MS);
}

function unlock() {
  const token = byId("token").value.trim();
  sessionStorage.setItem("token", token);
  byId("reload").disabled = token === "";
}

byId("token").value = sessionStorage.getItem("token") ?? "";
byId("token").addEventListener("input", unlock);
byId("reload").addEventListener("click", () => act("/api/reload", "Reload"));
unlock();
refresh();
